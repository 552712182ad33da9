import { describe, expect, test } from 'vitest';
import { createLogger, escapeControls, escapeJson, type LoggerOptions, logEvent } from '../../../lib/log.ts';
import type { SyncEvent } from '../../../lib/sync/runs/events.ts';
import { digestA, lineOf } from './reports.ts';

function record(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const logger = createLogger({
    level: 'debug',
    format: 'text',
    write: (line) => lines.push(line),
    now: () => new Date('2026-01-31T12:00:00Z'),
    ...options,
  });
  return { lines, logger };
}

test('a text line has time, level, message and fields', () => {
  const { lines, logger } = record();
  logger.info('copied', { source: 'docker.io/a/b:1', bytes: 12, reason: 'new tag', digest: undefined });
  expect(lines).toEqual([
    '2026-01-31T12:00:00.000Z INFO  copied source=docker.io/a/b:1 bytes=12 reason="new tag"',
  ]);
});

test('a JSON line is an object with the same', () => {
  const { lines, logger } = record({ format: 'json' });
  logger.warn('waiting', { host: 'x', seconds: 3, ok: true });
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    { time: '2026-01-31T12:00:00.000Z', level: 'warn', message: 'waiting', host: 'x', seconds: 3, ok: true },
  ]);
});

test('no field passes for the level or the message of a JSON line', () => {
  const { lines, logger } = record({ format: 'json' });
  logger.debug('said', { level: 'error', message: 'forged', time: 'never' });
  expect(JSON.parse(lines[0] ?? '')).toEqual({
    time: '2026-01-31T12:00:00.000Z',
    level: 'debug',
    message: 'said',
  });
});

test.each([
  ['debug', 4],
  ['info', 3],
  ['warn', 2],
  ['error', 1],
] as const)('from level %s on', (level, count) => {
  const { lines, logger } = record({ level });
  logger.debug('a');
  logger.info('b');
  logger.warn('c');
  logger.error('d');
  expect(lines).toHaveLength(count);
});

test('a child adds its fields, and a field of the call wins', () => {
  const { lines, logger } = record({ fields: { run: 'r1' } });
  logger.child({ rule: 'app', tag: '1' }).info('copied', { tag: '2' });
  expect(lines[0]).toContain('copied run=r1 rule=app tag=2');
});

describe.each(['text', 'json'] as const)('in %s', (format) => {
  test('secrets are taken out of messages and fields', () => {
    const { lines, logger } = record({ format });
    logger.error('GET https://me:hunter2@host/ with Bearer abcdefgh', { url: 'https://h/?sig=c2VjcmV0' });
    expect(lines[0]).not.toMatch(/hunter2|abcdefgh|c2VjcmV0/);
  });
  test('what others write stays on one line and moves no cursor', () => {
    const { lines, logger } = record({ format });
    logger.info('a\nb\u001b[2J\u009b2K\u2028\u202e', { name: 'x\r\n2026 ERROR forged', other: '\u0085' });
    expect(lines[0]).toMatch(/^[^\p{Cc}\u2028\u202e]+$/u);
  });
});

test('escaped JSON says the same as before', () => {
  const value = { text: '\u007f\u009b\u2028\u202e\n\t"\\' };
  const json = escapeJson(JSON.stringify(value, undefined, 2));
  expect(JSON.parse(json)).toEqual(value);
  expect(json).toMatch(/^[^\u007f-\u009f\u2028\u202e]+$/u);
});
test('an escaped text shows what was there', () => {
  expect(escapeControls('a\u001b[31mb\nc')).toBe('a\\u001b[31mb\\u000ac');
});

describe('events become lines', () => {
  test.each<[SyncEvent, string | undefined]>([
    [{ type: 'line', line: lineOf('copied', { bytes: 5 }) }, 'INFO  copied rule=app'],
    [{ type: 'line', line: lineOf('unchanged') }, 'DEBUG unchanged rule=app'],
    [
      { type: 'line', line: lineOf('deferred', { until: '2026-02-01T00:00:00Z' }) },
      'WARN  deferred rule=app',
    ],
    [
      { type: 'line', line: lineOf('failed', { error: { code: 'ERR_SERVER', message: 'It said no.' } }) },
      'code=ERR_SERVER error="It said no."',
    ],
    [{ type: 'line', line: lineOf('skip') }, 'DEBUG skip rule=app'],
    [
      { type: 'line', line: lineOf('unchanged'), fields: { operation: 'plan' } },
      'DEBUG unchanged operation=plan',
    ],
    [
      { type: 'line', line: lineOf('unchanged'), fields: { operation: 'push' } },
      'INFO  unchanged operation=push',
    ],
    [
      { type: 'line', line: lineOf('skipped'), fields: { operation: 'plan' } },
      'INFO  skipped operation=plan',
    ],
    [{ type: 'line', line: lineOf('superseded'), fields: { operation: 'copy' } }, 'INFO  superseded'],
    [{ type: 'listing', rule: 'app', tags: 3 }, 'DEBUG listing rule=app tags=3'],
    [{ type: 'planned', rule: 'app', lines: 3 }, 'INFO  planned rule=app lines=3'],
    [{ type: 'waiting', host: 'h', until: 0 }, 'WARN  waiting host=h until=1970-01-01T00:00:00.000Z'],
    [
      { type: 'blobStarted', id: '1', target: 't', digest: digestA, size: 9, offset: 3 },
      `DEBUG blob started id=1 target=t digest=${digestA} size=9 offset=3`,
    ],
    [{ type: 'blobProgress', id: '1', offset: 5 }, undefined],
    [{ type: 'blobEnded', id: '1', how: 'copied' }, 'DEBUG blob ended id=1 how=copied'],
    [{ type: 'log', level: 'warn', message: 'no tag', fields: { rule: 'app' } }, 'WARN  no tag rule=app'],
  ])('%j', (event, expected) => {
    const { lines, logger } = record();
    logEvent(logger, event);
    if (expected === undefined) expect(lines).toEqual([]);
    else expect(lines).toEqual([expect.stringContaining(expected)]);
  });
});
