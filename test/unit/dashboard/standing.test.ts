import { describe, expect, it } from 'vitest';
import type { RunReport, RunSummary, StatusAnswer } from '../../../lib/dashboard/answers.ts';
import {
  causesOf,
  countOf,
  isTag,
  kindOf,
  kinds,
  lastWords,
  parkedOf,
  repositoryOf,
  rulesOf,
  runsToRead,
} from '../../../lib/dashboard/standing.ts';
import {
  type Line,
  planActions,
  type RunHeader,
  syncOutcomes,
  verifyFindings,
} from '../../../lib/sync/runs/report.ts';
import { reportSchema, statusSchema } from '../../../lib/sync/runs/status.ts';
import { lineOf, realisticHistory, reportOf, statusOf } from '../../local/dashboard.ts';

const at = (hour: number) => new Date(Date.UTC(2026, 0, 5, hour)).toISOString();

function run(trigger: RunHeader['trigger'], from: number, to?: number): RunHeader {
  const header = { id: `${trigger}-${from}`, trigger, startedAt: at(from) };
  return to === undefined ? header : { ...header, finishedAt: at(to) };
}

function summaries(...reports: readonly RunReport[]): RunSummary[] {
  return reports.map(({ run, totals }) => ({ run, totals }));
}

const said = (reports: readonly RunReport[]) =>
  lastWords(reports).map(({ target, outcome }) => [target, outcome]);
const target = (tag: string) => `contoso.azurecr.io/mirror/nginx:${tag}`;

describe('the last word on a tag', () => {
  it('is that of the latest run, whatever the order of the reports', () => {
    const first = reportOf(run('schedule', 0, 1), [
      lineOf('nginx', '1', 'failed'),
      lineOf('nginx', '2', 'unchanged'),
    ]);
    const second = reportOf(run('webhook', 3, 4), [lineOf('nginx', '1', 'copied')]);
    const expected = [
      [target('1'), 'copied'],
      [target('2'), 'unchanged'],
    ];
    expect(said([first, second])).toEqual(expected);
    expect(said([second, first])).toEqual(expected);
  });

  it('is not that of a dry run, which has changed nothing', () => {
    const failed = reportOf(run('schedule', 0, 1), [lineOf('nginx', '1', 'failed')]);
    const dry = reportOf({ ...run('manual', 2, 3), dryRun: true }, [
      lineOf('nginx', '1', 'skipped', { reason: 'would copy: new tag' }),
    ]);
    expect(said([failed, dry])).toEqual([[target('1'), 'failed']]);
  });

  it('is that of an earlier run where it copied what the later one left to it', () => {
    const earlier = reportOf(run('webhook', 0, 5), [lineOf('nginx', '1', 'copied', { startedAt: at(4) })]);
    const later = reportOf(run('schedule', 2, 3), [lineOf('nginx', '1', 'deferred')]);
    expect(said([earlier, later])).toEqual([[target('1'), 'copied']]);
  });

  it('is no plan, nothing superseded, and none for what was deleted', () => {
    const real = reportOf(run('schedule', 0, 1), [
      lineOf('nginx', '1', 'same'),
      lineOf('nginx', '2', 'same'),
    ]);
    const dry = reportOf(run('manual', 2, 3), [
      lineOf('nginx', '1', 'delete'),
      lineOf('nginx', '1', 'superseded'),
    ]);
    const prune = reportOf(run('schedule', 4, 5), [lineOf('nginx', '2', 'deleted')]);
    expect(said([real, dry, prune])).toEqual([[target('1'), 'same']]);
  });

  it('comes from the last run that looked at every tag and all that ended since it began', () => {
    const reports = [
      { ...run('schedule', 10, 11), partial: true },
      run('webhook', 9, 10),
      run('schedule', 6, 8),
      run('webhook', 5, 7),
      run('schedule', 2, 3),
    ].map((header) => reportOf(header, []));
    expect(runsToRead(summaries(...reports)).map((one) => one.run.id)).toEqual([
      'schedule-10',
      'webhook-9',
      'schedule-6',
      'webhook-5',
    ]);
    const webhooks = summaries(reportOf(run('webhook', 9, 10), []), reportOf(run('webhook', 1, 2), []));
    expect(runsToRead(webhooks)).toEqual(webhooks);
  });
});

describe('what stops a rule as a whole', () => {
  const whole = (target: string, outcome = 'failed', more: Partial<Line> = {}): Line => {
    return { rule: 'nginx', source: 'docker.io/library/nginx', target, outcome, ...more };
  };
  const repository = 'contoso.azurecr.io/mirror/nginx';
  const failed = (target = repository) => reportOf(run('schedule', 0, 1), [whole(target)]);
  const outcomes = (...reports: readonly RunReport[]) =>
    lastWords(reports)
      .map(({ outcome }) => outcome)
      .sort();

  it.each(['manual', 'schedule', 'cli'] as const)(
    'is over when a later %s run tells of its tags',
    (trigger) => {
      const well = reportOf(run(trigger, 2, 3), [lineOf('nginx', '1', 'copied')]);
      expect(outcomes(failed(), well)).toEqual(['copied']);
      const cancelled = whole(repository, 'skipped', { reason: 'cancelled' });
      expect(outcomes(reportOf(run('schedule', 0, 1), [cancelled]), well)).toEqual(['copied']);
    },
  );

  it('is not over by a push, which looks at one tag alone, by another rule, or by what the same run did', () => {
    const tag = lineOf('nginx', '1', 'copied', { startedAt: at(5) });
    for (const other of [
      reportOf(run('webhook', 2, 6), [tag]),
      reportOf(run('manual', 2, 6), [{ ...tag, rule: 'other' }]),
      reportOf(run('manual', 2, 6), [lineOf('nginx/more', '1', 'copied')]),
      reportOf({ ...run('manual', 2, 6), dryRun: true }, [tag]),
    ])
      expect(outcomes(failed(), other)).toContain('failed');
    expect(outcomes(reportOf(run('manual', 0, 6), [whole(repository), tag]))).toEqual(['copied', 'failed']);
  });

  it('is over for several repositories when each has been told of, and for a namespace by one of its own', () => {
    const tagIn = (name: string, hour: number) =>
      reportOf(run('manual', hour, hour + 1), [
        lineOf('nginx', '1', 'copied', { target: `contoso.azurecr.io/${name}:1` }),
      ]);
    const two = failed('contoso.azurecr.io/a, contoso.azurecr.io/b');
    expect(outcomes(two, tagIn('a', 2))).toEqual(['copied', 'failed']);
    expect(outcomes(two, tagIn('a', 2), tagIn('b', 4))).toEqual(['copied', 'copied']);
    const namespace = failed('contoso.azurecr.io/acme/*');
    expect(outcomes(namespace, tagIn('other/a', 2))).toEqual(['copied', 'failed']);
    expect(outcomes(namespace, tagIn('acme/a', 2))).toEqual(['copied']);
  });
});

describe('the answers of the app', () => {
  it('are what this page reads, and what its tests are made of', () => {
    const canned = realisticHistory(Date.now());
    const status: StatusAnswer = statusOf(canned);
    expect(statusSchema.parse(JSON.parse(JSON.stringify(status)))).toEqual(status);
    for (const report of canned.reports satisfies readonly RunReport[]) reportSchema.parse(report);
  });
});

describe('outcomes', () => {
  it('are all known, of every kind of run', () => {
    const all = new Set<string>([...syncOutcomes, ...planActions, ...verifyFindings]);
    expect(new Set(Object.keys(kinds))).toEqual(all);
  });

  it('count a locked tag as good unless it differs', () => {
    expect(kindOf(lineOf('nginx', '1', 'locked'))).toBe('good');
    expect(kindOf(lineOf('nginx', '1', 'locked', { targetDigest: 'sha256:00' }))).toBe('bad');
  });

  it('take what was cancelled for what the next run does', () => {
    expect(kindOf(lineOf('nginx', '1', 'skipped', { reason: 'cancelled' }))).toBe('waiting');
    expect(kindOf(lineOf('nginx', '1', 'skipped', { reason: 'too young' }))).toBe('aside');
  });

  it('leave out of the count what is left out on purpose', () => {
    const lines = ['copied', 'deferred', 'failed', 'skipped', 'no such outcome'];
    expect(countOf(lines.map((outcome) => lineOf('nginx', '1', outcome)))).toEqual({
      tags: 3,
      good: 1,
      waiting: 1,
      bad: 1,
    });
  });
});

describe('causes', () => {
  const failed = (tag: string, message: string, code = 'ERR_SERVER') => ({
    ...lineOf('nginx', tag, 'failed', { error: { code, message } as NonNullable<Line['error']> }),
    run: 'r',
  });

  it('are one where messages differ in names, digests and numbers alone', () => {
    const found = causesOf([
      failed('1', `GET /v2/a/manifests/sha256:${'0'.repeat(64)}: 503 after 3 attempts`),
      failed('2', `GET /v2/b/c/manifests/sha256:${'1'.repeat(64)}: 502 after 12 attempts`),
      failed('3', `${target('3')} broke`),
      failed('4', `${target('4')} broke`),
      failed('5', `${target('5')} broke`),
      failed('6', 'GET /v2/a: 503 after 3 attempts', 'ERR_TIMEOUT'),
    ]);
    expect(found.map(({ code, lines }) => [code, lines.length])).toEqual([
      ['ERR_SERVER', 3],
      ['ERR_SERVER', 2],
      ['ERR_TIMEOUT', 1],
    ]);
    expect(found[0]).toMatchObject({ meaning: 'A registry failed.', remedy: 'Run again later.' });
  });

  it('are what a check found, too, and codes that the page does not know', () => {
    const lines = [
      { ...lineOf('nginx', '1', 'missing'), run: 'r' },
      failed('2', 'Boo', 'ERR_FROM_THE_FUTURE'),
    ];
    expect(causesOf(lines)).toMatchObject([
      { code: 'missing', meaning: 'The target does not have the tag.' },
      { code: 'ERR_FROM_THE_FUTURE', meaning: '', message: 'Boo' },
    ]);
  });
});

describe('what is parked', () => {
  it('stands by its minute and reason, the next first; what waits without a time first of all', () => {
    const now = Date.parse(at(0));
    const parked = (tag: string, until: string | undefined, reason: string) => ({
      ...lineOf('nginx', tag, reason === 'too young' ? 'skipped' : 'deferred', {
        reason,
        ...(until && { until }),
      }),
      run: 'r',
    });
    const found = parkedOf(
      [
        parked('1', at(2), 'rate limit'),
        parked('2', at(1), 'too young'),
        parked('3', at(2), 'rate limit'),
        parked('4', undefined, 'an earlier run is working on it'),
        { ...lineOf('nginx', '5', 'skipped', { until: '2020-01-01T00:00:00Z' }), run: 'r' },
      ],
      {},
      now,
    );
    expect(found.map(({ until, reason, count }) => [until, reason, count])).toEqual([
      [0, 'an earlier run is working on it', 1],
      [Date.parse(at(1)), 'too young', 1],
      [Date.parse(at(2)), 'rate limit', 2],
    ]);
  });

  it('is what the app says, where it says it', () => {
    const groups = [
      { reason: 'rate limit', count: 600, until: at(3), examples: [target('1')] },
      { reason: 'too young', count: 1, until: at(2), examples: [target('2')] },
    ];
    const line = { ...lineOf('nginx', '9', 'deferred'), run: 'r' };
    expect(parkedOf([line], { parked: { groups } }, 0)).toEqual([
      { reason: 'too young', count: 1, until: Date.parse(at(2)), targets: [target('2')] },
      { reason: 'rate limit', count: 600, until: Date.parse(at(3)), targets: [target('1')] },
    ]);
  });
});

describe('rules', () => {
  it('stand in the order of their trouble, with their repositories', () => {
    const lines = [
      lineOf('a', '1', 'copied'),
      lineOf('b', '1', 'failed'),
      lineOf('c', '1', 'deferred'),
      lineOf('c', '2', 'same', { source: 'docker.io/library/other:2' }),
    ].map((line) => ({ ...line, run: 'r' }));
    expect(rulesOf(lines)).toMatchObject([
      { rule: 'b', source: 'docker.io/library/b', bad: 1 },
      { rule: 'c', source: 'docker.io/library/c and 1 more', waiting: 1, good: 1 },
      { rule: 'a', target: 'contoso.azurecr.io/mirror/a', tags: 1 },
    ]);
  });

  it.each([
    ['docker.io/library/nginx:1', 'docker.io/library/nginx'],
    ['127.0.0.1:5000/a/b:1', '127.0.0.1:5000/a/b'],
    ['127.0.0.1:5000/a/b', '127.0.0.1:5000/a/b'],
    [`docker.io/a/b@sha256:${'0'.repeat(64)}`, 'docker.io/a/b'],
    [`docker.io/a/b:1@sha256:${'0'.repeat(64)}`, 'docker.io/a/b'],
  ])('know the repository of %s', (name, repository) => {
    expect(repositoryOf(name)).toBe(repository);
    expect(isTag(lineOf('a', '1', 'same', { source: name }))).toBe(name !== repository);
  });
});
