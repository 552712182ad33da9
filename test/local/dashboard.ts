/**
 * The dashboard on a server of its own, with canned answers in the app's place. Run by hand, it shows a realistic history:
 * `node test/local/dashboard.ts`; with the name of a folder (`.github`) it takes the README's pictures of it.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import type { DashboardAnswer } from '../../esbuild.dashboard.ts';
import { buildDashboard } from '../../esbuild.dashboard.ts';
import { isFull, runsToRead } from '../../lib/dashboard/standing.ts';
import type { ErrorSummary } from '../../lib/errors.ts';
import type { OpenRun, Status } from '../../lib/sync/queue/standing.ts';
import { type PushesReport, pushesId } from '../../lib/sync/runs/pushes.ts';
import {
  type AnyReport,
  buildReport,
  type Line,
  type RunHeader,
  type SyncOutcome,
  syncOutcomes,
  verifyFindings,
} from '../../lib/sync/runs/report.ts';
import { overviewOf } from '../../lib/sync/runs/runs.ts';
import { noTransfer } from '../../lib/sync/runs/tally.ts';
import type { TrafficHour } from '../../lib/sync/runs/traffic.ts';
import { launchBrowser } from './browser.ts';
import { seeded } from './random.ts';
import { type Answer, type Exchange, type LocalServer, reply, replyJson, startServer } from './server.ts';

export const dashboardKey = 'the-right-key';

/** What the canned app knows; a test may change it at any time. */
export interface Canned extends Partial<Omit<Status, 'openRuns' | 'runs'>> {
  /** Unless given, every run is told by its own report. */
  readonly pushes?: PushesReport;
  readonly rulesError?: ErrorSummary;
  /** In any order; those without an end are open. */
  readonly reports: AnyReport[];
}

export interface DashboardServer extends LocalServer {
  /** Bodies of the control requests. */
  readonly controls: unknown[];
  canned: Canned;
}

export async function startDashboard(canned: Canned): Promise<DashboardServer> {
  const page = await buildDashboard();
  const controls: unknown[] = [];
  const server: DashboardServer = Object.assign(
    await startServer((exchange) => respond(exchange, page, server)),
    { controls, canned },
  );
  return server;
}

async function respond(
  exchange: Exchange,
  page: DashboardAnswer,
  { canned, controls }: DashboardServer,
): Promise<Answer> {
  const [, api, name, ...rest] = exchange.path.split('/');
  if (api !== 'api') return reply(404);
  if (name === 'dashboard') return reply(200, page.headers, page.body);
  if (exchange.headers['x-functions-key'] !== dashboardKey) return reply(401);
  if (name === 'control') {
    controls.push(JSON.parse((await exchange.bytes())?.toString() ?? ''));
    return replyJson(200, { requests: 1 });
  }
  const run = rest.join('/');
  if (run === '') return replyJson(200, statusOf(canned));
  const all = [...canned.reports, canned.pushes ?? pushesOf(canned)];
  const report = all.find((one) => one.run.id === run);
  const unknown = { error: { code: 'ERR_RUN_UNKNOWN', message: 'There is no such run' } };
  return report === undefined ? replyJson(404, unknown) : replyJson(200, report);
}

/** As the app makes it of its reports. */
export function statusOf({ reports, pushes: _, ...canned }: Canned): Status {
  const sorted = reports.toSorted((a, b) => (a.run.startedAt < b.run.startedAt ? 1 : -1));
  const open = sorted.filter(({ run }) => run.finishedAt === undefined);
  return {
    paused: false,
    open: [...open.slice(0, 15), ...open.slice(15).slice(-5)].map(({ run }) => standingOf(run)),
    copying: [],
    parked: { count: 0, groups: [] },
    traffic: trafficOf(reports),
    ...canned,
    openRuns: open.map(({ run }) => run.id),
    runs: sorted.filter(({ run }) => run.finishedAt !== undefined).map(overviewOf),
  };
}

function standingOf(run: RunHeader): OpenRun {
  const why = '1 requests are queued or under way';
  return { run, state: 'working', since: run.startedAt, why, out: 1, parked: 0, examples: [] };
}

export function pushesOf(canned: Canned, lines: readonly Line[] = []): PushesReport {
  const told = runsToRead(statusOf(canned).runs).map(({ run }) => run);
  const full = told.findLast(isFull);
  return {
    ...buildReport(runAt('webhook', 0), syncOutcomes, lines as Line<SyncOutcome>[], noTransfer()),
    run: { id: pushesId, trigger: 'webhook', startedAt: full?.startedAt ?? iso(0) },
    ...(full === undefined ? {} : { full: full.id }),
    others: told.filter((run) => run !== full).map(({ id }) => id),
    complete: true,
  };
}

/** Each run in an hour of its own. */
function trafficOf(reports: readonly AnyReport[]): TrafficHour[] {
  return reports
    .filter(({ run }) => run.finishedAt !== undefined)
    .map(({ run, totals }) => ({
      from: run.startedAt,
      runs: 1,
      copied: 'copied' in totals ? totals.copied : 0,
      bytes: totals.bytesCopied,
      pulls: totals.pulls,
    }));
}

const hour = 3_600_000;
const day = 24 * hour;

function iso(time: number): string {
  return new Date(time).toISOString();
}

export function runAt(trigger: RunHeader['trigger'], startedAt: number, tookMs?: number): RunHeader {
  const id = `${iso(startedAt).slice(0, 19).replace(/[-:]/g, '')}Z-${trigger}`;
  const header = { id, trigger, startedAt: iso(startedAt) };
  return tookMs === undefined
    ? header
    : { ...header, finishedAt: iso(startedAt + tookMs), interrupted: false };
}

export function reportOf(run: RunHeader, tags: readonly Line[], pulls = 0): AnyReport {
  const bytesCopied = tags.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
  const copied = tags.filter(({ bytes = 0 }) => bytes > 0).length;
  const blobs = { blobsCopied: copied * 4, blobsMounted: copied, blobsExisting: copied * 3 };
  const transfer = { bytesCopied, ...blobs, requests: { source: tags.length, target: tags.length }, pulls };
  return run.trigger === 'verify'
    ? buildReport(run, verifyFindings, tags as Line<'same'>[], transfer)
    : buildReport(run, syncOutcomes, tags as Line<SyncOutcome>[], transfer);
}

function digestOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

export function lineOf(rule: string, tag: string, outcome: string, more: Partial<Line> = {}): Line {
  const source = `docker.io/${rule.includes('/') ? rule : `library/${rule}`}:${tag}`;
  const target = `contoso.azurecr.io/mirror/${rule}:${tag}`;
  return { rule, source, target, digest: digestOf(source), outcome, ...more };
}

const mirrored: Readonly<Record<string, readonly string[]>> = {
  'newbe36524/hagicode': versions('v', 2, 60),
  nginx: versions('1.', 29, 5),
  postgres: versions('', 18, 7),
  'grafana/grafana': versions('', 13, 9),
};

function versions(prefix: string, major: number, each: number): string[] {
  const tags = ['latest'];
  for (let minor = major; minor >= Math.max(0, major - 9); minor -= 1)
    for (let patch = 0; patch < each; patch += 1) tags.push(`${prefix}${minor}.${patch}`);
  return tags;
}

const MiB = 1024 * 1024;

/** Three weeks of a mirror that is loved and, today, has a little trouble. */
export function realisticHistory(now: number): Canned {
  // The last one whose run has ended: in the first hour of a day that of the day before.
  const midnight = Math.floor((now - hour) / day) * day;
  const all = Object.entries(mirrored).flatMap(([rule, tags]) => tags.map((tag) => ({ rule, tag })));
  const chance = seeded('dashboard');
  const reports: AnyReport[] = [];
  for (let ago = 20; ago >= 0; ago -= 1) {
    const at = midnight - ago * day;
    const moved = chance.between(1, 12);
    const first = chance.between(0, all.length - moved);
    const lines = all.map(({ rule, tag }, index) =>
      index >= first && index < first + moved
        ? lineOf(rule, tag, 'copied', { reason: 'moved', ...work(at, index) })
        : lineOf(rule, tag, 'unchanged', { startedAt: iso(at + 30_000) }),
    );
    const told = ago === 0 ? lines.map((line, index) => trouble(line, index, now)) : lines;
    reports.push(reportOf(runAt('schedule', at, chance.between(120, 900) * 1000), told, moved * 4));
    if (ago % 3 === 1) {
      const pushedAt = at + chance.between(8, 20) * hour;
      const pushed = lineOf('newbe36524/hagicode', 'latest', 'copied', {
        reason: 'push',
        ...work(pushedAt, ago),
      });
      reports.push(reportOf(runAt('webhook', pushedAt, 21_000), [pushed], 3));
    }
    if (ago % 7 === 2) {
      const checked = all.map(({ rule, tag }) =>
        lineOf(rule, tag, 'same', { startedAt: iso(at + 6 * hour) }),
      );
      reports.push(reportOf(runAt('verify', at + 6 * hour, 11 * 60_000), checked, 0));
    }
  }
  const began = now - 95_000;
  const newest = lineOf('newbe36524/hagicode', 'v2.61', 'copied', { reason: 'push', ...work(began, 5) });
  const push = runAt('webhook', began);
  reports.push(reportOf(push, [newest], 4));
  const target = 'contoso.azurecr.io/mirror/newbe36524/hagicode';
  const blob = (seed: string, size: number, share: number) => {
    return {
      target,
      digest: digestOf(seed),
      size: size * MiB,
      offset: Math.floor(size * share) * MiB,
      savedAt: now,
    };
  };
  const why = 'Requests are queued or under way.';
  return {
    reports: reports.map((report) => withTimes(report)),
    open: [
      { run: push, state: 'working', since: iso(now - 4000), why, out: 2, parked: 0, examples: [target] },
    ],
    copying: [blob('a', 5120, 0.62), blob('b', 734, 0.2)],
    parked: {
      count: 6,
      groups: [
        { reason: 'rate limit', count: 6, until: iso(now + 100 * 60_000), examples: parkedTags(reports) },
      ],
    },
  };
}

function parkedTags(reports: readonly AnyReport[]): string[] {
  return reports.flatMap(({ tags }: { readonly tags: readonly Line[] }) =>
    tags.filter(({ outcome }) => outcome === 'deferred').map((line) => line.target),
  );
}

/** As the app adds them to its reports. */
function withTimes(report: AnyReport): AnyReport {
  const lines: readonly Line[] = report.tags;
  const copied = lines.filter(({ bytes = 0 }) => bytes > 0);
  const longest = copied.toSorted((a, b) => (b.durationMs ?? 0) - (a.durationMs ?? 0)).slice(0, 5);
  const longestBlobs = longest.map(({ target, digest = '', bytes: size = 0, durationMs = 0 }) => {
    return { target, digest, size, durationMs };
  });
  return { ...report, pullsLeft: 200 - report.totals.pulls, longestBlobs };
}

function work(at: number, index: number): Partial<Line> {
  return {
    bytes: (12 + ((index * 37) % 240)) * MiB,
    startedAt: iso(at + index * 900),
    durationMs: 2400 + ((index * 613) % 41_000),
  };
}

function trouble(line: Line, index: number, now: number): Line {
  const { bytes: _, ...rest } = line;
  if (line.rule === 'postgres' && index % 19 === 0) {
    const message = `GET /v2/library/postgres/manifests/${line.digest}: 404 MANIFEST_UNKNOWN`;
    return { ...rest, outcome: 'failed', error: { code: 'ERR_BLOB_MISSING', message } };
  }
  if (line.rule === 'nginx' && index % 29 === 0) {
    const message = `The target refuses to move ${line.target}`;
    return {
      ...rest,
      outcome: 'locked',
      targetDigest: digestOf(`old ${index}`),
      error: { code: 'ERR_LOCKED', message },
    };
  }
  if (line.rule === 'grafana/grafana' && index % 17 === 0)
    return { ...rest, outcome: 'deferred', reason: 'rate limit', until: iso(now + 100 * 60_000) };
  return line;
}

/** What the README shows, on a desk and on a phone. */
const pictures = {
  'dashboard.png': { width: 1200, height: 1300 },
  'dashboard-phone.png': { width: 390, height: 1300 },
};

async function takePictures(server: DashboardServer, folder: string): Promise<void> {
  const browser = await launchBrowser();
  for (const [name, viewport] of Object.entries(pictures)) {
    const page = await browser.newPage({ viewport, timezoneId: 'UTC' });
    await page.goto(`${server.url}/api/dashboard`);
    await page.getByLabel('Function key').fill(dashboardKey);
    await page.keyboard.press('Enter');
    await page.locator('#verdict h2').waitFor();
    await page.screenshot({ path: path.join(folder, name) });
    await page.close();
  }
  await browser.close();
}

if (import.meta.main) {
  // A folder for the pictures; without one the page is there to be looked at.
  const [folder] = process.argv.slice(2);
  const server = await startDashboard(realisticHistory(Date.now()));
  if (folder === undefined) {
    console.log(`${server.url}/api/dashboard (key: ${dashboardKey}). Ctrl-C ends it.`);
  } else {
    await takePictures(server, folder);
    await server.close();
  }
}
