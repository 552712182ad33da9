import { describe, expect, test } from 'vitest';
import { renderFindings } from '../../../lib/cli/findings.ts';
import { formatBytes, formatDuration, paintFor, plainPaint } from '../../../lib/cli/format.ts';
import { renderError, renderReport } from '../../../lib/cli/output.ts';
import { renderRun, renderRuns } from '../../../lib/cli/status.ts';
import { ConfigError, HubferryError } from '../../../lib/errors.ts';
import { digestA, digestB, lineOf, planReport, syncReport, verifyReport } from './reports.ts';

const view = { paint: plainPaint, most: 100 };
const tag = (name: number | string) => ({
  source: `docker.io/a/b:${name}`,
  target: `x.azurecr.io/b:${name}`,
});
const many = (count: number) => Array.from({ length: count }, (_, index) => tag(index));

describe('a plan', () => {
  test('lists what is to be done with its reason, and counts the rest', () => {
    const report = planReport([
      lineOf('copy', { ...tag(1), reason: 'new tag' }),
      lineOf('copy', { ...tag(20), reason: 'moved', digest: digestA, targetDigest: digestB }),
      lineOf('delete', { ...tag(3), reason: 'gone at source' }),
      lineOf('unchanged', tag(4)),
      lineOf('unchanged', tag(5)),
      lineOf('skip', { ...tag(6), reason: 'too young' }),
    ]);
    expect(renderReport(report, view)).toMatchInlineSnapshot(`
      "app
        copy        docker.io/a/b:1 -> x.azurecr.io/b:1    new tag
        copy        docker.io/a/b:20 -> x.azurecr.io/b:20  moved, sha256:aaaaaaaaaaaa at the source, sha256:bbbbbbbbbbbb at the target
        delete      docker.io/a/b:3 -> x.azurecr.io/b:3  gone at source
        unchanged   2 tags
        skip        1 tag: too young

      2 copy, 1 delete, 2 unchanged, 1 skip. 0 requests, 0 pulls in 34s.
      "
    `);
  });
  test('of 10,000 tags is no longer than what is to be looked at', () => {
    const lines = [
      ...many(9000).map((pair) => lineOf('unchanged', pair)),
      ...many(1000).map((pair) => lineOf('copy', { ...pair, reason: 'new tag' })),
    ];
    const text = renderReport(planReport(lines), view);
    expect(text.split('\n').length).toBeLessThan(110);
    expect(text).toContain('and 900 more; --json tells them all');
    expect(text).toContain('9,000 tags');
    const piped = renderReport(planReport(lines), { ...view, most: Number.POSITIVE_INFINITY });
    expect(piped.match(/^ {2}copy /gm)).toHaveLength(1000);
  });
});

describe('a sync', () => {
  test('counts what went well, groups failures by code and gives the remedy', () => {
    const refused = { code: 'ERR_UNAUTHORIZED', message: 'The login was refused.' } as const;
    const report = syncReport([
      lineOf('copied', { ...tag(1), reason: 'new tag' }),
      lineOf('copied', { ...tag(2), reason: 'new tag' }),
      lineOf('deferred', { ...tag(3), reason: 'rate limit', until: '2026-02-01T00:00:00.000Z' }),
      lineOf('locked', { ...tag(4), digest: digestA, targetDigest: digestB }),
      lineOf('failed', { rule: 'other', source: 'docker.io/c/d', target: 'x.azurecr.io/d', error: refused }),
      lineOf('failed', { rule: 'third', source: 'docker.io/e/f', target: 'x.azurecr.io/f', error: refused }),
    ]);
    expect(renderReport(report, view)).toMatchInlineSnapshot(`
      "app
        deferred    docker.io/a/b:3 -> x.azurecr.io/b:3  rate limit, until 2026-02-01 00:00:00Z
        locked      docker.io/a/b:4 -> x.azurecr.io/b:4  sha256:aaaaaaaaaaaa at the source, sha256:bbbbbbbbbbbb at the target
        copied      2 tags: new tag

      other
        failed      1 line

      third
        failed      1 line

      ERR_UNAUTHORIZED  A registry refused the login. Check user name, password or token, and their expiry.
        docker.io/c/d -> x.azurecr.io/d: The login was refused.
        docker.io/e/f -> x.azurecr.io/f: The login was refused.

      2 copied, 1 deferred, 1 locked, 2 failed. 0 requests, 0 pulls in 34s.
      "
    `);
  });
  test('says that it was interrupted, and that it goes on', () => {
    expect(renderReport(syncReport([], { interrupted: true }), view)).toContain(
      'Interrupted: run again, it goes on where it stood.',
    );
  });
  test('without a tag says so', () => {
    expect(renderReport(syncReport([]), view)).toBe('No tag was selected. 0 requests, 0 pulls in 34s.\n');
  });
});

test('a verify lists each difference', () => {
  const report = verifyReport([
    lineOf('same', tag(1)),
    lineOf('moved', { ...tag(2), digest: digestA, targetDigest: digestB }),
    lineOf('missing', { ...tag(3), digest: digestA }),
    lineOf('incomplete', { ...tag(4), digest: digestA, missing: [digestA, digestB, digestA, digestB] }),
    lineOf('extra', tag(5)),
  ]);
  expect(renderReport(report, view)).toMatchInlineSnapshot(`
    "app
      moved       docker.io/a/b:2 -> x.azurecr.io/b:2  sha256:aaaaaaaaaaaa at the source, sha256:bbbbbbbbbbbb at the target
      missing     docker.io/a/b:3 -> x.azurecr.io/b:3
      incomplete  docker.io/a/b:4 -> x.azurecr.io/b:4  misses sha256:aaaaaaaaaaaa, sha256:bbbbbbbbbbbb, sha256:aaaaaaaaaaaa, and 1 more
      extra       docker.io/a/b:5 -> x.azurecr.io/b:5
      same        1 tag

    1 same, 1 moved, 1 missing, 1 incomplete, 1 extra. 0 requests, 0 pulls in 34s.
    "
  `);
});

describe('an error', () => {
  test('says where, what, and what to do', () => {
    const error = new ConfigError('ERR_CONFIG', 'Unknown key "inclde": did you mean include?', {
      file: 'sync.yaml',
      line: 7,
      path: 'rules[0].tags',
    });
    expect(renderError(error, plainPaint)).toBe(
      'hubferry: sync.yaml:7: rules[0].tags: Unknown key "inclde": did you mean include?\n' +
        '  ERR_CONFIG: Correct the named line.\n',
    );
  });
  test('has no stack and no secret', () => {
    const text = renderError(new HubferryError('ERR_SERVER', 'Basic aGk6aHVudGVyMg== was sent'), plainPaint);
    expect(text).toBe('hubferry: Basic *** was sent\n  ERR_SERVER: Run again later.\n');
  });
});

test('names and messages of others reach the terminal as visible text', () => {
  const evil = '\u001b]0;owned\u0007\r\n\u009b2J';
  const line = { rule: `r${evil}`, source: `s${evil}`, target: `t${evil}`, reason: `w${evil}` };
  const error = { code: 'ERR_SERVER', message: `m${evil}` } as const;
  const report = syncReport([lineOf('deferred', line), lineOf('failed', { ...line, error })]);
  const { run, totals, tags } = report;
  const texts = [
    renderReport(report, view),
    renderRuns([{ run, totals, failures: tags }], view),
    renderFindings([{ check: evil, status: 'failed', message: evil, remedy: evil }], plainPaint),
    renderError(new ConfigError('ERR_CONFIG', evil, { file: evil, path: evil }), plainPaint),
  ];
  for (const text of texts) expect(text.replaceAll('\n', '')).toMatch(/^\P{Cc}+$/u);
});

describe('status', () => {
  test('shows the last runs and what failed in them', () => {
    const error = { code: 'ERR_NOT_FOUND', message: 'There is no repository docker.io/a/b.' } as const;
    const good = syncReport([lineOf('copied'), lineOf('unchanged')]);
    const bad = syncReport([lineOf('failed', { error })]);
    const runs = [
      { run: { ...bad.run, id: 'r22', trigger: 'webhook' as const }, totals: bad.totals, failures: bad.tags },
      { run: good.run, totals: good.totals, failures: [] },
      { run: { ...good.run, interrupted: true }, totals: good.totals, failures: [] },
      {
        run: { id: 'r0', trigger: 'cli' as const, startedAt: good.run.startedAt },
        totals: good.totals,
        failures: [],
      },
    ];
    expect(renderRuns(runs, view)).toMatchInlineSnapshot(`
      "RUN  TRIGGER  STARTED               TOOK         RESULT
      r22  webhook  2026-01-31 12:00:00Z  34s          1 failed
          ERR_NOT_FOUND  A repository or its content does not exist. Check the name.
            docker.io/a/b:1 -> x.azurecr.io/b:1: There is no repository docker.io/a/b.
      r1   cli      2026-01-31 12:00:00Z  34s          1 copied, 1 unchanged
      r1   cli      2026-01-31 12:00:00Z  interrupted  1 copied, 1 unchanged
      r0   cli      2026-01-31 12:00:00Z  running      1 copied, 1 unchanged
      "
    `);
  });
  test('without a run says so', () => {
    expect(renderRuns([], view)).toBe('No run yet.\n');
  });
  test('shows one run whole', () => {
    expect(renderRun(planReport([lineOf('copy', { reason: 'new tag' })]), view)).toMatchInlineSnapshot(`
      "run r1, cli, started 2026-01-31 12:00:00Z, 34s

      app
        copy        docker.io/a/b:1 -> x.azurecr.io/b:1  new tag

      1 copy. 0 requests, 0 pulls in 34s.
      "
    `);
  });
});

test('doctor gives each finding with its remedy', () => {
  const findings = [
    { check: 'rules', status: 'ok', message: '3 rules' },
    { check: 'login docker.io', status: 'failed', message: 'It was refused.', code: 'ERR_UNAUTHORIZED' },
  ] as const;
  expect(renderFindings(findings, plainPaint)).toMatchInlineSnapshot(`
    "ok       rules            3 rules
    failed   login docker.io  It was refused.
             Check user name, password or token, and their expiry.
    "
  `);
});

describe('colours', () => {
  const terminal = { isTTY: true };
  const colored = '\u001b[31mno\u001b[0m';
  test.each([
    ['on a terminal', terminal, {}, colored],
    ['in a pipe', {}, {}, 'no'],
    ['on a terminal with NO_COLOR', terminal, { NO_COLOR: '1' }, 'no'],
    ['on a terminal with an empty NO_COLOR', terminal, { NO_COLOR: '' }, colored],
    ['on a dumb terminal', terminal, { TERM: 'dumb' }, 'no'],
    ['in a pipe with FORCE_COLOR', {}, { FORCE_COLOR: '1' }, colored],
    ['on a terminal with FORCE_COLOR=0', terminal, { FORCE_COLOR: '0' }, 'no'],
    ['with both, the forced ones', {}, { FORCE_COLOR: '1', NO_COLOR: '1' }, colored],
  ])('%s', (_case, stream, env, expected) => {
    expect(paintFor(stream, env)('red', 'no')).toBe(expected);
  });
});

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1.0 KiB'],
  [1024 * 1024 - 1, '1.0 MiB'],
  [1.5 * 1024 ** 3, '1.5 GiB'],
  [5000 * 1024 ** 4, '5000.0 TiB'],
])('%d bytes are %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0, '0s'],
  [59_600, '1m00s'],
  [130_000, '2m10s'],
  [3_900_000, '1h05m'],
  [76 * 3_600_000, '3d04h'],
])('%d milliseconds are %s', (milliseconds, text) => {
  expect(formatDuration(milliseconds)).toBe(text);
});
