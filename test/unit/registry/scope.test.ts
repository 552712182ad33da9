import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mergeScopes, repositoryScope, splitScopes } from '../../../lib/registry/scope.ts';

describe('scopes', () => {
  it('come together by resource, with all their actions in order', () => {
    const scopes = [
      'repository:b:push,pull',
      'repository:a:pull',
      'repository:b:pull',
      'registry:catalog:*',
      '',
    ];
    expect(mergeScopes(scopes)).toEqual([
      'registry:catalog:*',
      'repository:a:pull',
      'repository:b:pull,push',
    ]);
  });

  it('keep a port and a resource class in the name', () => {
    expect(mergeScopes(['repository(plugin):host:5000/a:pull', 'odd'])).toEqual([
      'odd',
      'repository(plugin):host:5000/a:pull',
    ]);
  });

  it('are the same whatever their order, and merging twice is merging once', () => {
    const scope = fc
      .tuple(
        fc.constantFrom('a', 'a/b', 'c'),
        fc.subarray(['pull', 'push', 'delete'] as const, { minLength: 1 }),
      )
      .map(([path, actions]) => repositoryScope(path, ...actions));
    fc.assert(
      fc.property(fc.array(scope), (scopes) => {
        const merged = mergeScopes(scopes);
        expect(mergeScopes(scopes.toReversed())).toEqual(merged);
        expect(mergeScopes(merged)).toEqual(merged);
      }),
    );
  });

  it('are separated by spaces in a challenge', () => {
    expect(splitScopes('repository:a:pull  repository:b:pull')).toEqual([
      'repository:a:pull',
      'repository:b:pull',
    ]);
    expect(splitScopes(undefined)).toEqual([]);
  });
});
