import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Rule } from '../../../lib/config/model.ts';
import { defaultLimits } from '../../../lib/sync/copy/limits.ts';
import type { CopyResult } from '../../../lib/sync/copy/outcome.ts';
import { DirectRun } from '../../../lib/sync/direct.ts';
import type { Core } from '../../../lib/sync/plan/core.ts';
import type { Plan } from '../../../lib/sync/plan/fan-out.ts';
import type { CopyRequest } from '../../../lib/sync/request.ts';
import { Tally } from '../../../lib/sync/runs/tally.ts';

// Whoever waits moves the time on.
vi.mock('../../../lib/sync/waiting.ts', async (load) => ({
  ...(await load<typeof import('../../../lib/sync/waiting.ts')>()),
  sleepUntil: async (until: number) => void vi.setSystemTime(Math.max(until, Date.now())),
}));

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const rule: Rule = {
  name: 'rule',
  source: { host: 'docker.io', path: 'a/b', selector: { kind: 'all' } },
  targets: [{ host: 'target', path: 'b' }],
  tags: { include: [], exclude: [], prerelease: false },
  platforms: [],
  referrers: true,
  prune: false,
  overwrite: true,
};

/** A copier that is refused until a time, and counts how often it is asked. It may tell another time. */
function limitedCore(until: number, told = () => until) {
  const asked: string[][] = [];
  const copy = async ({ tags }: CopyRequest): Promise<CopyResult> => {
    asked.push(tags.map((tag) => tag.source));
    const outcome = Date.now() < until ? ('deferred' as const) : ('copied' as const);
    const lines = tags.map((tag) => ({
      rule: 'rule',
      source: `docker.io/a/b:${tag.source}`,
      target: `target/b:${tag.target}`,
      outcome: tag.source === 'free' ? ('copied' as const) : outcome,
      bytes: tag.source === 'free' ? 1 : 10,
      ...(outcome === 'deferred' && { reason: 'rate limit', until: new Date(told()).toISOString() }),
    }));
    return { lines };
  };
  const tasks = ['free', 'limited'].map((tag) => ({
    line: { rule: 'rule', source: tag, target: tag, outcome: 'copy' as const, reason: 'new tag' },
    source: tag,
    target: tag,
    digest: 'sha256:0' as const,
  }));
  const plan: Plan = { lines: tasks.map(({ line }) => line), tasks, referrers: undefined };
  const core = {
    planner: { plan: async () => plan },
    copier: { copy, remove: copy },
    limits: defaultLimits,
    open: () => ({ source: { name: 'docker.io/a/b' }, target: { name: 'target/b' } }),
    expand: async () => [rule],
  };
  return { core: core as unknown as Core, asked };
}

function run(core: Core, waitMs: number) {
  const options = {
    run: 'run',
    force: false,
    allowMassDelete: false,
    pruneLimit: 1,
    waitMs,
    signal: new AbortController().signal,
    onEvent: () => {},
    tally: new Tally(),
  };
  return new DirectRun(core, [rule], options).sync();
}

const outcomes = (lines: readonly { target: string; outcome: string }[]) =>
  Object.fromEntries(lines.map(({ target, outcome }) => [target, outcome]));

describe('a run that is told to wait for rate limits', () => {
  it('asks again for what was deferred, and for nothing else, when its time has come', async () => {
    const { core, asked } = limitedCore(Date.now() + 60);
    expect(outcomes(await run(core, 10_000))).toEqual({
      'target/b:free': 'copied',
      'target/b:limited': 'copied',
    });
    expect(asked).toEqual([['free', 'limited'], ['limited']]);
  });

  it('tells of a line what was sent for it before its time had come, too', async () => {
    const { core } = limitedCore(Date.now() + 60);
    const lines = await run(core, 10_000);
    expect(lines.map(({ target, bytes }) => [target, bytes])).toEqual([
      ['target/b:free', 1],
      ['target/b:limited', 20],
    ]);
  });

  it('leaves nobody alone for less than seconds, where the time that it was told is over already', async () => {
    const begun = Date.now();
    const { core, asked } = limitedCore(Number.POSITIVE_INFINITY, () => {
      vi.advanceTimersByTime(10);
      return Date.now() - 2000;
    });
    expect(outcomes(await run(core, 60_000))).toMatchObject({ 'target/b:limited': 'deferred' });
    expect(asked.length).toBeLessThan(60);
    expect(Date.now() - begun).toBeGreaterThan(60_000);
  });

  it('defers what would take longer than it may wait', async () => {
    const { core, asked } = limitedCore(Date.now() + 60_000);
    expect(outcomes(await run(core, 1000))).toEqual({
      'target/b:free': 'copied',
      'target/b:limited': 'deferred',
    });
    expect(asked).toHaveLength(1);
  });
});
