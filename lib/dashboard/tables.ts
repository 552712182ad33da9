/** Rules and runs, one row each. */
import type { RunReport, RunSummary, Totals } from './answers.ts';
import { type Child, h } from './dom.ts';
import { bytes, count, duration, several } from './format.ts';
import { button, name, shares, shortDigest, when } from './parts.ts';
import type { RuleStanding } from './standing.ts';
import { runLink } from './work.ts';

function table(
  label: string,
  heads: Readonly<Record<string, string>>,
  rows: readonly HTMLElement[],
): HTMLElement {
  const cells = Object.entries(heads).map(([name, text]) => h('th', { scope: 'col', class: name }, text));
  return h(
    'table',
    { 'aria-labelledby': label },
    h('thead', {}, h('tr', {}, ...cells)),
    h('tbody', {}, ...rows),
  );
}

export function rules(all: readonly RuleStanding[]): Child[] {
  const rows = all.map(({ rule, source, target, tags, good, waiting, bad }) =>
    h(
      'tr',
      { 'data-key': rule },
      h('th', { scope: 'row' }, button('rule', rule, { class: 'link name', 'data-rule': rule })),
      h('td', { class: 'way' }, name(source), ' → ', name(target)),
      h('td', { class: 'number' }, `${count(good)} of ${count(tags)}`),
      h('td', { class: 'state' }, stateOf(waiting, bad)),
    ),
  );
  return [
    h('h2', { id: 'rules-title' }, 'Rules'),
    table('rules-title', { rule: 'Rule', way: 'From and to', count: 'In step', state: 'State' }, rows),
  ];
}

function stateOf(waiting: number, bad: number): HTMLElement {
  if (bad > 0) return h('span', { class: 'pill bad' }, `${count(bad)} not`);
  if (waiting > 0) return h('span', { class: 'pill waiting' }, `${count(waiting)} waiting`);
  return h('span', { class: 'pill good' }, 'in step');
}

const runsAtFirst = 8;

export function runs(all: readonly RunSummary[], { now, older }: { now: number; older: boolean }): Child[] {
  const heads = {
    run: 'Run',
    result: 'Result',
    took: 'Took',
    tags: 'Tags',
    copied: 'Copied',
    pulls: 'Pulls',
  };
  const shown = older ? all : all.slice(0, runsAtFirst);
  const rest = all.length - shown.length;
  return [
    h('h2', { id: 'runs-title' }, 'Last runs'),
    all.length === 0
      ? h('p', { class: 'none' }, 'No run has finished yet.')
      : table(
          'runs-title',
          heads,
          shown.map((one) => run(one, now)),
        ),
    rest > 0 ? button('older', `Show ${several(rest, 'older run')}`) : undefined,
  ];
}

/** Lines that a retry plans again. */
function troubles({ failed = 0, missing = 0, moved = 0, incomplete = 0 }: Totals): number {
  return failed + missing + moved + incomplete;
}

function run(
  { run: { id, trigger, startedAt, finishedAt, interrupted, cancelled }, totals }: RunSummary,
  now: number,
): HTMLElement {
  const took = finishedAt === undefined ? '' : duration(Date.parse(finishedAt) - Date.parse(startedAt));
  const again = { 'data-run': id, 'aria-label': `Retry what failed in ${id}` };
  return h(
    'tr',
    { 'data-key': id },
    h(
      'th',
      { scope: 'row', class: 'run' },
      runLink(id),
      h('span', { class: 'note' }, `${trigger}, `, when(startedAt, now)),
    ),
    h(
      'td',
      { class: 'result' },
      shares(totals),
      h('span', { class: 'note' }, resultOf(totals)),
      troubles(totals) > 0 ? button('retry', 'Retry', again) : undefined,
    ),
    h('td', { class: 'took' }, took, interrupted ? ' interrupted' : '', cancelled ? ' cancelled' : ''),
    h('td', { class: 'number tags' }, count(totals.tags)),
    h('td', { class: 'number copied' }, bytes(totals.bytesCopied)),
    h('td', { class: 'number pulls' }, count(totals.pulls)),
  );
}

const quiet: ReadonlySet<string> = new Set([
  'tags',
  'bytesCopied',
  'blobsCopied',
  'blobsMounted',
  'blobsExisting',
  'pulls',
]);

/** `12 copied, 988 unchanged`. */
export function resultOf(totals: Totals): string {
  return Object.entries(totals)
    .filter(([outcome, value]) => typeof value === 'number' && value > 0 && !quiet.has(outcome))
    .map(([outcome, value]) => `${count(value as number)} ${outcome}`)
    .join(', ');
}

/** What one run came to. */
export function about({ totals, pullsLeft, longestBlobs = [] }: RunReport): Child[] {
  const { requests, bytesCopied, blobsCopied, blobsMounted, blobsExisting, pulls } = totals;
  const left = pullsLeft === undefined ? '' : `, ${count(pullsLeft)} left`;
  const facts = [
    resultOf(totals),
    `${bytes(bytesCopied)} in ${several(blobsCopied, 'blob')} copied, ${count(blobsMounted)} mounted, ${count(blobsExisting)} there already`,
    `${several(pulls, 'pull')}${left}; ${count(requests.source)} requests to the source, ${count(requests.target)} to the target`,
  ];
  const longest = longestBlobs.map(({ target, digest, size, durationMs }) =>
    h('li', {}, name(target), ' ', shortDigest(digest), ` ${bytes(size)} in ${duration(durationMs)}`),
  );
  return [
    ...facts.map((fact) => h('p', {}, fact)),
    longest.length === 0
      ? undefined
      : h('details', {}, h('summary', {}, 'What took longest'), h('ul', { class: 'names' }, ...longest)),
  ];
}
