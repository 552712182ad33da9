import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { rateLimitOf } from '../../../lib/dockerhub/allowance.ts';

test('reads limit, rest, window and whom it counts', () => {
  expect(
    rateLimitOf({
      'ratelimit-limit': '100;w=21600',
      'ratelimit-remaining': '76;w=21600',
      'docker-ratelimit-source': '192.0.2.1',
    }),
  ).toEqual({ limit: 100, remaining: 76, windowSeconds: 21_600, source: '192.0.2.1' });
});

test('assumes six hours where no window is told', () => {
  expect(rateLimitOf({ 'ratelimit-limit': '200', 'ratelimit-remaining': '0' })).toEqual({
    limit: 200,
    remaining: 0,
    windowSeconds: 21_600,
    source: '',
  });
});

test('takes a window of years for none', () => {
  const headers = { 'ratelimit-limit': '100;w=9007199254740991', 'ratelimit-remaining': '1;w=900000000' };
  expect(rateLimitOf(headers)?.windowSeconds).toBe(21_600);
});

test.each([
  ['100; w=3600', 100, 3600],
  ['100 ; W = 3600 ; comment=shared', 100, 3600],
  ['100;comment="a, b";w=3600', 100, 3600],
  ['100, 100;w=3600', 100, 3600],
  ['-1;w=3600', 0, 3600],
])('reads %s as other servers write it', (text, remaining, windowSeconds) => {
  expect(rateLimitOf({ 'ratelimit-limit': '200', 'ratelimit-remaining': text })).toMatchObject({
    limit: 200,
    remaining,
    windowSeconds,
  });
});

test('believes what is left also where nothing tells of how many', () => {
  expect(rateLimitOf({ 'ratelimit-remaining': '0;w=21600' })).toMatchObject({ limit: 100, remaining: 0 });
  expect(rateLimitOf({ 'ratelimit-remaining': '150' })).toMatchObject({ limit: 150, remaining: 150 });
});

test.each([
  ['no header', {}],
  ['a limit alone', { 'ratelimit-limit': '100;w=21600' }],
  ['words', { 'ratelimit-limit': 'many', 'ratelimit-remaining': 'some' }],
])('knows of no allowance by %s', (_, headers) => {
  expect(rateLimitOf(headers)).toBeUndefined();
});

test('whatever the headers are, an allowance has whole numbers', () => {
  const quota = fc.oneof(fc.string(), fc.stringMatching(/^\d{1,20}(;w=\d{1,20})?$/));
  fc.assert(
    fc.property(quota, quota, fc.string(), (limit, remaining, source) => {
      const allowance = rateLimitOf({
        'ratelimit-limit': limit,
        'ratelimit-remaining': remaining,
        'docker-ratelimit-source': source,
      });
      if (allowance === undefined) return;
      for (const value of [allowance.limit, allowance.remaining, allowance.windowSeconds]) {
        expect(Number.isSafeInteger(value) && value >= 0).toBe(true);
      }
      expect(allowance.windowSeconds).toBeGreaterThan(0);
    }),
  );
});
