/** The page's course: it asks for a key, reads the mirror again and again, and does what its buttons say. */
import { errorCodes, HubferryError } from '../errors.ts';
import type { ControlAction } from './answers.ts';
import { Api, WrongKey } from './api.ts';
import { byId, type Child, h, show } from './dom.ts';
import { distance, minute, second, timeOfDay } from './format.ts';
import { Mirror } from './mirror.ts';
import { overview } from './overview.ts';
import { button } from './parts.ts';
import { traffic } from './plot.ts';
import { causesOf, countOf, isTag, kindOf, parkedOf, rulesOf, worstFirst } from './standing.ts';
import { about, rules, runs } from './tables.ts';
import { type Filter, linesOf, options, select, trouble } from './tags.ts';
import { trafficOf } from './traffic.ts';
import { causes, parked } from './troubles.ts';
import { verdictOf } from './verdict.ts';
import { work } from './work.ts';

const keyName = 'hubferry-key';
const everyMs = 15 * second;
const everyWhileOpenMs = 5 * second;
const slowestMs = 2 * minute;
/** The page waits so many times as long as it reads. */
const idleShare = 10;
/** How long what was done is told. */
const doneMs = 8 * second;
/** Padding and border of a plot's card, in pixels. */
const plotFrame = 34;
const narrowestPlot = 240;

const loginForm = byId('login') as HTMLFormElement;
const keyField = byId('key') as HTMLInputElement;
const searchField = byId('search') as HTMLInputElement;
const ruleField = byId('rule') as HTMLSelectElement;
const outcomeField = byId('outcome') as HTMLSelectElement;
const sureDialog = byId('sure') as HTMLDialogElement;

let api: Api | undefined;
let mirror: Mirror | undefined;
/** When it was read. */
let readAt = 0;
/** How long that took. */
let tookMs = 0;
/** Readings in a row that failed. */
let failures = 0;
let timer = 0;
let doneTimer = 0;
let page = 0;
/** Whether the older runs are shown too. */
let older = false;

function openedRun(): string | undefined {
  return new URLSearchParams(location.hash.slice(1)).get('run') ?? undefined;
}

/** Reads everything anew, and comes back by itself for as long as somebody looks. */
async function refresh(): Promise<void> {
  clearTimeout(timer);
  const asked = api;
  if (asked === undefined) return;
  const startedAt = Date.now();
  try {
    const read = await Mirror.read(asked, mirror, openedRun());
    if (api !== asked) return;
    mirror = read;
    readAt = Date.now();
    tookMs = readAt - startedAt;
    failures = 0;
    tellProblem();
    render();
  } catch (error) {
    if (api !== asked) return;
    if (error instanceof WrongKey) return askForKey(error.message);
    failures += 1;
    tellProblem(error);
  }
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(refresh, pause());
}

function pause(): number {
  const usual = mirror?.status.openRuns.length ? everyWhileOpenMs : everyMs;
  // The report of a large run takes long: the app has better things to do than to tell it all the time.
  return Math.min(Math.max(usual, idleShare * tookMs) * 2 ** failures, slowestMs);
}

function tellProblem(error?: unknown): void {
  const stale = mirror === undefined ? '' : ` What stands below is of ${timeOfDay(readAt)}.`;
  const again = failures === 0 ? '' : ` Next try ${distance(Date.now() + pause(), Date.now())}.`;
  show(
    byId('problem'),
    error === undefined ? [] : [h('p', { class: 'problem' }, ...explain(error), stale + again)],
  );
}

function explain(error: unknown): Child[] {
  if (!(error instanceof HubferryError)) return [h('strong', {}, 'This page failed. '), String(error)];
  const { remedy } = errorCodes[error.code];
  return [h('strong', {}, h('bdi', {}, error.message)), ' ', h('code', {}, error.code), ` ${remedy}`];
}

function logIn(key: string): void {
  sessionStorage.setItem(keyName, key);
  api = new Api(key);
  loginForm.hidden = true;
  keyField.value = '';
  refresh();
}

function askForKey(why?: string): void {
  sessionStorage.removeItem(keyName);
  api = undefined;
  mirror = undefined;
  failures = 0;
  clearTimeout(timer);
  tellProblem();
  show(byId('key-problem'), why === undefined ? [] : [why]);
  keyField.setAttribute('aria-invalid', String(why !== undefined));
  loginForm.hidden = false;
  render();
  keyField.focus();
}

function render(): void {
  byId('content').hidden = mirror === undefined;
  byId('controls').hidden = mirror === undefined;
  show(byId('freshness'), mirror === undefined ? [] : [`Read at ${timeOfDay(readAt)}`]);
  if (mirror === undefined) return;
  const { status, lines, reports, speeds } = mirror;
  const now = Date.now();
  const tagLines = lines.filter(isTag);
  const failedRules = new Set(
    lines.filter((line) => !isTag(line) && kindOf(line) === 'bad').map(({ rule }) => rule),
  );
  const count = countOf(tagLines);
  const verdict = verdictOf({ status, count, failedRules: failedRules.size, now });
  show(byId('controls'), [
    status.paused
      ? button('resume', 'Resume copying', { class: 'primary' })
      : button('pause', 'Pause copying'),
    button('leave', 'Forget the key'),
  ]);
  show(byId('verdict'), overview({ verdict, count, status, now }));
  // For screen readers, which hear it when it changes.
  show(byId('announcement'), [verdict.title]);
  document.title = `${verdict.title} · hubferry`;
  section('work', work({ status, reports, speeds, now }), {
    hidden: status.openRuns.length === 0 && !status.copying?.length,
  });
  const wrong = causesOf(lines);
  section('causes', causes(wrong), { hidden: wrong.length === 0 });
  const waiting = parkedOf(lines, status, now);
  section('parked', parked(waiting, now), { hidden: waiting.length === 0 });
  section('traffic', traffic(trafficOf(status.runs, now), plotWidth()), { hidden: status.runs.length === 0 });
  section('rules', rules(rulesOf(tagLines)), { hidden: tagLines.length === 0 });
  show(byId('runs'), runs(status.runs, { now, older }));
  renderTags();
}

function section(id: string, children: Child[], { hidden }: { hidden: boolean }): void {
  byId(id).hidden = hidden;
  show(byId(id), hidden ? [] : children);
}

/** Two plots beside each other, where there is room. */
function plotWidth(): number {
  const { clientWidth } = byId('content');
  const room = clientWidth < 720 ? clientWidth : (clientWidth - 16) / 2;
  return Math.max(room - plotFrame, narrowestPlot);
}

function renderTags(): void {
  if (mirror === undefined) return;
  const run = openedRun();
  const all = run === undefined ? mirror.lines : (mirror.reports.get(run)?.tags.toSorted(worstFirst) ?? []);
  const filter: Filter = { text: searchField.value, rule: ruleField.value, outcome: outcomeField.value };
  show(
    ruleField,
    options(
      'All rules',
      all.map(({ rule }) => rule),
      filter.rule,
    ),
  );
  show(outcomeField, [
    ...options(
      'All outcomes',
      all.map(({ outcome }) => outcome),
      filter.outcome === trouble ? '' : filter.outcome,
    ),
    h('option', { value: trouble, 'data-key': trouble }, 'All that is not in step'),
  ]);
  show(byId('tags-title'), [run === undefined ? 'Tags' : `Tags of run ${run}`]);
  show(byId('scope'), run === undefined ? [] : [button('current', 'Show the mirror as it stands')]);
  const report = run === undefined ? undefined : mirror.reports.get(run);
  show(byId('about'), report === undefined ? [] : about(report));
  show(byId('lines'), linesOf(select(all, filter), page, Date.now()));
}

/** Says what was done, for everybody to see, and goes away by itself. */
function tellDone(text: string): void {
  clearTimeout(doneTimer);
  show(byId('done'), [text]);
  doneTimer = setTimeout(() => show(byId('done'), []), doneMs);
}

const acts: Readonly<Record<string, (element: HTMLElement) => unknown>> = {
  leave: () => {
    sessionStorage.removeItem(keyName);
    // Nothing of what was shown stays behind.
    location.reload();
  },
  pause: () => control('pause', [undefined], 'Copying is paused.'),
  resume: () => control('resume', [undefined], 'Copying goes on.'),
  cancel: async ({ dataset: { run = '' } }) => {
    const text = `${run} ends here: what it has not copied stays undone until the next run.`;
    if (await isSure('Cancel this run?', text, 'Cancel the run'))
      control('cancel', [run], 'The run is cancelled.');
  },
  retry: ({ dataset: { run = '' } }) => control('retry', [run], 'What failed is asked for again.'),
  'retry-all': () => control('retry', failedRuns(), 'What failed is asked for again.'),
  page: (element) => {
    if (element.ariaDisabled === 'true') return;
    page = Number(element.dataset.page);
    renderTags();
  },
  older: () => {
    older = true;
    render();
  },
  rule: ({ dataset: { rule = '' } }) => {
    location.hash = '';
    ruleField.value = rule;
    toTags();
  },
  current: () => {
    location.hash = '';
  },
};

function failedRuns(): string[] {
  const failed = mirror?.lines.filter(({ outcome }) => outcome === 'failed') ?? [];
  return [...new Set(failed.map(({ run }) => run))];
}

async function control(
  action: ControlAction,
  targets: readonly (string | undefined)[],
  done: string,
): Promise<void> {
  try {
    for (const run of targets) await api?.control(action, run);
    tellDone(done);
    await refresh();
  } catch (error) {
    if (error instanceof WrongKey) askForKey(error.message);
    else tellProblem(error);
  }
}

function isSure(title: string, text: string, yes: string): Promise<boolean> {
  byId('sure-title').textContent = title;
  byId('sure-text').textContent = text;
  byId('sure-yes').textContent = yes;
  sureDialog.returnValue = '';
  sureDialog.showModal();
  return new Promise((resolve) => {
    sureDialog.addEventListener('close', () => resolve(sureDialog.returnValue === 'yes'), { once: true });
  });
}

function toTags(): void {
  page = 0;
  renderTags();
  byId('tags').scrollIntoView();
  byId('tags-title').focus({ preventScroll: true });
}

function search(): void {
  page = 0;
  renderTags();
}

document.addEventListener('click', ({ target }) => {
  const element = target instanceof Element ? target.closest<HTMLElement>('[data-do]') : null;
  if (element !== null) acts[element.dataset.do ?? '']?.(element);
});
loginForm.addEventListener('submit', (event) => {
  event.preventDefault();
  logIn(keyField.value.trim());
});
byId('sure-yes').addEventListener('click', () => sureDialog.close('yes'));
byId('sure-no').addEventListener('click', () => sureDialog.close());
searchField.addEventListener('input', search);
ruleField.addEventListener('change', search);
outcomeField.addEventListener('change', search);
addEventListener('hashchange', async () => {
  await refresh();
  toTags();
});
addEventListener('resize', render);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refresh();
});

const kept = sessionStorage.getItem(keyName);
if (kept === null) askForKey();
else logIn(kept);
