import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import {
  type Document,
  errorDocument,
  findingsDocument,
  formatDocument,
  reportDocument,
  runsDocument,
} from '../../../lib/cli/documents.ts';
import { ConfigError, HubferryError } from '../../../lib/errors.ts';
import { planActions, syncOutcomes, verifyFindings } from '../../../lib/sync/runs/report.ts';
import { digestA, digestB, lineOf, planReport, syncReport, verifyReport } from './reports.ts';

const textOf = (document: Document) => [...formatDocument(document)].join('');
const roundTrip = (document: Document): unknown => JSON.parse(textOf(document));

const count = z.int().min(0);
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);

/** The document as the README has it: these keys and no others. */
function schemaFor(outcomes: readonly [string, ...string[]]) {
  return z.strictObject({
    run: z.strictObject({
      id: z.string(),
      trigger: z.enum(['cli', 'schedule', 'webhook', 'manual', 'verify']),
      startedAt: z.iso.datetime(),
      finishedAt: z.iso.datetime().optional(),
      interrupted: z.boolean(),
    }),
    totals: z.strictObject({
      tags: count,
      ...Object.fromEntries(outcomes.map((outcome) => [outcome, count])),
      bytesCopied: count,
      blobsCopied: count,
      blobsMounted: count,
      blobsExisting: count,
      requests: z.strictObject({ source: count, target: count }),
      pulls: count,
    }),
    tags: z.array(
      z.strictObject({
        rule: z.string(),
        source: z.string(),
        target: z.string(),
        digest: digest.optional(),
        targetDigest: digest.optional(),
        outcome: z.enum(outcomes),
        reason: z.string().optional(),
        error: z.strictObject({ code: z.string(), message: z.string() }).optional(),
        until: z.iso.datetime().optional(),
        missing: z.array(digest).optional(),
        bytes: count.optional(),
        startedAt: z.iso.datetime().optional(),
        durationMs: z.number().optional(),
      }),
    ),
  });
}

const whole = {
  digest: digestA,
  targetDigest: digestB,
  reason: 'new tag',
  error: { code: 'ERR_SERVER', message: 'It said no.' },
  until: '2026-02-01T00:00:00.000Z',
  missing: [digestB],
  bytes: 12,
  startedAt: '2026-01-31T12:00:00.000Z',
  durationMs: 34,
} as const;

describe('a report has the keys of the interface and no others', () => {
  test.each([
    ['sync', syncOutcomes, syncReport(syncOutcomes.map((outcome) => lineOf(outcome, whole)))],
    ['plan', planActions, planReport(planActions.map((outcome) => lineOf(outcome, whole)))],
    ['verify', verifyFindings, verifyReport(verifyFindings.map((outcome) => lineOf(outcome, whole)))],
    ['a bare sync', syncOutcomes, syncReport([lineOf('failed')])],
  ])('%s', (_name, outcomes, report) => {
    const [first, ...rest] = outcomes;
    const document = schemaFor([first, ...rest]).parse(roundTrip(reportDocument(report)));
    expect(document.tags).toEqual(report.tags);
    const counted = outcomes.map((outcome) => new Map(Object.entries(document.totals)).get(outcome));
    expect(counted.reduce((sum: number, figure) => sum + Number(figure), 0)).toBe(document.totals.tags);
  });

  test('the keys stand in the order of the interface', () => {
    const document = roundTrip(reportDocument(syncReport([lineOf('copied', whole)])));
    expect(Object.keys(document as object)).toEqual(['run', 'totals', 'tags']);
    expect(document).toHaveProperty('totals');
    const { totals } = document as { totals: object };
    expect(Object.keys(totals)).toEqual([
      'tags',
      ...syncOutcomes,
      'bytesCopied',
      'blobsCopied',
      'blobsMounted',
      'blobsExisting',
      'requests',
      'pulls',
    ]);
  });

  test('what else an object of the program carries stays inside', () => {
    const line = { ...lineOf('copied'), secret: 'hunter2' };
    expect(textOf(reportDocument(syncReport([line])))).not.toContain('hunter2');
  });
});

describe('an exit without report', () => {
  test('a mistake in a file has file, line and path', () => {
    const error = new ConfigError('ERR_CONFIG', 'Unknown key "inclde": did you mean include?', {
      file: 'sync.yaml',
      line: 7,
      path: 'rules[0].tags',
    });
    expect(roundTrip(errorDocument(error))).toEqual({
      error: {
        code: 'ERR_CONFIG',
        message: 'Unknown key "inclde": did you mean include?',
        file: 'sync.yaml',
        line: 7,
        path: 'rules[0].tags',
      },
    });
  });
  test.each([
    [new HubferryError('ERR_STORAGE', 'The folder is full.'), 'ERR_STORAGE', 'The folder is full.'],
    [new TypeError('x is not a function'), 'ERR_INTERNAL', 'x is not a function'],
    [
      new Error('GET https://a:hunter2@h/ failed\n    at file.ts:1'),
      'ERR_INTERNAL',
      'GET https://***@h/ failed at file.ts:1',
    ],
  ])('%o is a code and a message', (error, code, message) => {
    expect(roundTrip(errorDocument(error))).toEqual({ error: { code, message } });
  });
});

test('secrets in reasons and messages of others are taken out', () => {
  const line = lineOf('failed', {
    reason: 'Bearer abcdefgh',
    error: { code: 'ERR_SERVER', message: 'GET https://h/?sig=abcdefgh' },
  });
  expect(textOf(reportDocument(syncReport([line])))).not.toContain('abcdefgh');
});

test('no raw control character leaves, and the text is the same when it is read', () => {
  const source = 'docker.io/a/\u001b[2J\u009b\u2028\u202e:1';
  const text = textOf(reportDocument(syncReport([lineOf('copied', { source })])));
  expect(text.replaceAll('\n', '')).toMatch(/^[^\p{Cc}\u2028\u202e]+$/u);
  expect(JSON.parse(text)).toMatchObject({ tags: [{ source }] });
});

test('the last runs are told with what did not end well', () => {
  const { run, totals, tags } = syncReport([lineOf('failed', { error: whole.error })]);
  expect(roundTrip(runsDocument([{ run, totals, failures: tags }]))).toMatchObject({
    runs: [
      { run: { id: 'r1' }, totals: { failed: 1 }, failures: [{ outcome: 'failed', error: whole.error }] },
    ],
  });
});

test('a finding has its remedy, or that of its code', () => {
  const findings = [
    { check: 'rules', status: 'ok', message: '3 rules' },
    { check: 'login', status: 'failed', message: 'refused', code: 'ERR_UNAUTHORIZED' },
    { check: 'allowance', status: 'warning', message: '3 left', remedy: 'Log in.' },
  ] as const;
  expect(roundTrip(findingsDocument(findings))).toEqual({
    findings: [
      { check: 'rules', status: 'ok', message: '3 rules' },
      {
        check: 'login',
        status: 'failed',
        message: 'refused',
        code: 'ERR_UNAUTHORIZED',
        remedy: 'Check user name, password or token, and their expiry.',
      },
      { check: 'allowance', status: 'warning', message: '3 left', remedy: 'Log in.' },
    ],
  });
});

test('the text is that of JSON, and comes in pieces where there are many lines', () => {
  const lines = Array.from({ length: 2000 }, (_, index) => lineOf('copied', { bytes: index }));
  for (const tags of [[], lines]) {
    const report = syncReport(tags);
    const pieces = [...formatDocument(reportDocument(report))];
    expect(pieces.length > 1).toBe(tags.length > 0);
    const document = {
      ...reportDocument(report),
      tags: [...(reportDocument(report).tags as Iterable<unknown>)],
    };
    expect(pieces.join('')).toBe(`${JSON.stringify(document, undefined, 2)}\n`);
  }
});
