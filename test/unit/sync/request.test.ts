import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { copyRequestSchema, planRequestSchema } from '../../../lib/sync/request.ts';

const longest = (length: number) => 't'.repeat(length);
const digest = `sha512:${'f'.repeat(128)}`;

const request = {
  kind: 'copy',
  id: 'copy-1',
  run: '20261124T080000Z-schedule-abcdef',
  rule: 'app',
  source: 'docker.io/acme/app',
  target: 'mirror.azurecr.io/app',
  tags: [{ source: '1.0', target: '1.0' }],
  reason: 'new tag',
};

describe('a queue message', () => {
  it('is read with what it leaves out, and reading it again changes nothing', () => {
    const read = copyRequestSchema.parse(request);
    expect(read).toMatchObject({ ...request, force: false, attempt: 0 });
    expect(copyRequestSchema.parse(JSON.parse(JSON.stringify(read)))).toEqual(read);
  });

  it('of any JSON is a request or refused, and changes no prototype', () => {
    const anything = fc.oneof(
      fc.jsonValue(),
      fc.record(
        {
          kind: fc.constantFrom('copy', 'delete', 'plan', 'run'),
          id: fc.string(),
          run: fc.string(),
          rule: fc.string(),
          source: fc.string(),
          target: fc.string(),
          tags: fc.array(fc.oneof(fc.record({ source: fc.string(), target: fc.string() }), fc.jsonValue())),
          digest: fc.oneof(fc.string(), fc.constant(digest)),
          reason: fc.string(),
          attempt: fc.oneof(fc.integer(), fc.double()),
          cursor: fc.string(),
        },
        { requiredKeys: [] },
      ),
    );
    fc.assert(
      fc.property(anything, (message) => {
        for (const schema of [copyRequestSchema, planRequestSchema]) {
          const read = schema.safeParse(message);
          if (read.success) expect(schema.parse(read.data)).toEqual(read.data);
        }
        expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
      }),
    );
  });

  it.each([
    ['an unknown key', { command: 'id' }],
    ['a key that is everyone’s', JSON.parse('{"__proto__":{"polluted":true},"constructor":{}}')],
    ['a run that is a path', { run: '../../config' }],
    ['an id that is a path', { id: 'a/b' }],
    ['a run that is no text', { run: 7 }],
    ['no tag', { tags: [] }],
    ['more tags than a plan puts into one', { tags: Array(201).fill({ source: 'a', target: 'a' }) }],
    ['a tag longer than tags are', { tags: [{ source: longest(129), target: 'a' }] }],
    ['a digest that is none', { digest: 'sha256:../x' }],
    ['an attempt below none', { attempt: -1 }],
    ['half an attempt', { attempt: 0.5 }],
    ['a name without an end', { rule: longest(513) }],
    ['a source that leads elsewhere', { source: 'docker.io/acme/../x' }],
    ['a target that leads elsewhere', { target: 'mirror.azurecr.io/app/../x' }],
    ['a target with a query', { target: 'mirror.azurecr.io/app?x' }],
  ])('with %s is refused', (_, changes) => {
    expect(copyRequestSchema.safeParse({ ...request, ...changes }).success).toBe(false);
  });
});
