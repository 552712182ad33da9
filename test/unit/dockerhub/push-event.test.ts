import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { maxPushEventBytes, parsePushEvent } from '../../../lib/dockerhub/push-event.ts';
import { codeOf, HubferryError } from '../../../lib/errors.ts';
import { webhookBody } from '../../local/dockerhub.ts';

function event(push: object, repository: object = { repo_name: 'library/nginx' }): string {
  return JSON.stringify({ push_data: { tag: 'v1', ...push }, repository });
}

function refusal(body: string): HubferryError {
  try {
    parsePushEvent(body);
  } catch (error) {
    if (error instanceof HubferryError) return error;
    throw error;
  }
  throw new Error(`taken: ${body}`);
}

test('takes a time in seconds, with a fraction, in exponential form, or none', () => {
  expect(parsePushEvent(event({ pushed_at: 1_417_566_161 })).pushedAt).toBe(1_417_566_161_000);
  expect(parsePushEvent(event({ pushed_at: 1_417_566_161.5 })).pushedAt).toBe(1_417_566_161_500);
  const exponential =
    '{"push_data":{"tag":"v1","pushed_at":1.417566161e+09},"repository":{"repo_name":"a/b"}}';
  expect(parsePushEvent(exponential).pushedAt).toBe(1_417_566_161_000);
  expect(parsePushEvent(event({})).pushedAt).toBeUndefined();
  expect(parsePushEvent(event({ pushed_at: null })).pushedAt).toBeUndefined();
});

test('takes the name as one of Docker Hub, whatever it looks like', () => {
  const pathOf = (repo_name: string) => parsePushEvent(event({}, { repo_name })).repository;
  expect(pathOf('library/nginx')).toBe('library/nginx');
  expect(pathOf('nginx')).toBe('library/nginx');
  expect(pathOf('localhost/x')).toBe('localhost/x');
});

test.each([
  ['nothing', ''],
  ['no JSON', '{'],
  ['an array', '[]'],
  ['no push', '{"repository":{"repo_name":"a/b"}}'],
  ['no repository', '{"push_data":{"tag":"v1"}}'],
  ['a tag that is none', event({ tag: '../x' })],
  ['a tag of another type', event({ tag: 1 })],
  ['a time of another type', event({ pushed_at: 'now' })],
  ['a time that is none', event({ pushed_at: -1 })],
  ['a repository in capitals', event({}, { repo_name: 'A/B' })],
  ['a repository with a tag', event({}, { repo_name: 'a/b:c' })],
  ['a repository with a digest', event({}, { repo_name: `a/b@sha256:${'0'.repeat(64)}` })],
  ['a URL', event({}, { repo_name: 'https://user:canary@host/x' })],
  ['more than anybody sends', event({ note: 'x'.repeat(maxPushEventBytes) })],
])('refuses %s', (_, body) => {
  const error = refusal(body);
  expect(error.code).toBe('ERR_REQUEST_INVALID');
  expect(error.message).not.toContain('canary');
  expect(error.message.length).toBeLessThan(300);
});

test('whatever is posted is an event or a refusal', () => {
  const anything = fc.oneof(
    fc.string(),
    fc.json(),
    fc.record({ push_data: fc.anything(), repository: fc.anything() }).map((value) => JSON.stringify(value)),
    fc
      .record({ tag: fc.string(), repo_name: fc.string(), pushed_at: fc.double() })
      .map(({ repo_name, ...push }) => event(push, { repo_name })),
  );
  fc.assert(
    fc.property(anything, (body) => {
      try {
        const { repository, tag } = parsePushEvent(body);
        expect(repository).toMatch(/^[a-z0-9]/);
        expect(tag).toMatch(/^\w[\w.-]{0,127}$/);
      } catch (error) {
        expect(codeOf(error)).toBe('ERR_REQUEST_INVALID');
      }
    }),
  );
});

test('reads every push of a repository with a valid name', () => {
  const name = fc.stringMatching(/^[a-z0-9]{1,20}\/[a-z0-9]{1,20}$/);
  const tag = fc.stringMatching(/^\w[\w.-]{0,20}$/);
  const time = fc.integer({ min: 1, max: 4_000_000_000 });
  fc.assert(
    fc.property(name, tag, time, (repository, pushed, seconds) => {
      const body = JSON.stringify(webhookBody(repository, pushed, seconds * 1000));
      expect(parsePushEvent(body)).toEqual({ repository, tag: pushed, pushedAt: seconds * 1000 });
    }),
  );
});
