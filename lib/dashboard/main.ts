/** The page's course: it asks for a key, reads the mirror again and again, and does what its buttons say. */
import { errorCodes, HubferryError } from '../errors.ts';
import type { ControlAction } from './answers.ts';
import { Api, cleanKey, WrongKey } from './api.ts';
import { byId, type Child, h, show } from './dom.ts';
import { chooseRule, showTags, turnTo } from './finder.ts';
import { distance, minute, second, timeOfDay } from './format.ts';
import { Mirror } from './mirror.ts';
import { clearMirror, showControls, showMirror } from './sections.ts';
import { canRetry } from './standing.ts';

const keyName = 'hubferry-key';
const everyMs = 15 * second;
const everyWhileOpenMs = 5 * second;
const slowestMs = 2 * minute;
/** The page waits so many times as long as it reads. */
const idleShare = 10;
/** How long what was done is told. */
const doneMs = 8 * second;
const askedAgain = 'What failed is asked for again.';

const loginForm = byId('login') as HTMLFormElement;
const keyField = byId('key') as HTMLInputElement;
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
    tellProblem(read.problem);
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
  render();
  refresh();
}

function askForKey(why?: string): void {
  sessionStorage.removeItem(keyName);
  api = undefined;
  mirror = undefined;
  failures = 0;
  clearTimeout(timer);
  sureDialog.close();
  clearMirror();
  tellProblem();
  show(byId('key-problem'), why === undefined ? [] : [why]);
  keyField.setAttribute('aria-invalid', String(why !== undefined));
  loginForm.hidden = false;
  render();
  keyField.focus();
}

function render(): void {
  byId('content').hidden = mirror === undefined;
  byId('controls').hidden = api === undefined;
  showControls(mirror?.status.paused);
  const reading = api === undefined ? [] : ['Reading …'];
  show(byId('freshness'), mirror === undefined ? reading : [`Read at ${timeOfDay(readAt)}`]);
  if (mirror !== undefined) showMirror(mirror, { older });
  renderTags();
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
  retry: ({ dataset: { run = '' } }) => control('retry', [run], askedAgain),
  'retry-all': () => control('retry', failedRuns(), askedAgain),
  page: (element) => {
    if (element.ariaDisabled === 'true') return;
    turnTo(Number(element.dataset.page));
    renderTags();
  },
  older: () => {
    older = true;
    render();
  },
  rule: ({ dataset: { rule = '' } }) => {
    location.hash = '';
    chooseRule(rule);
    toTags();
  },
  current: () => {
    location.hash = '';
  },
};

function failedRuns(): string[] {
  const failed = mirror?.lines.filter(canRetry) ?? [];
  return [...new Set(failed.map(({ run }) => run))];
}

/** What was asked for and is not yet seen on the page: a second press of the button asks for nothing more. */
const underWay = new Set<string>();

async function control(
  action: ControlAction,
  targets: readonly (string | undefined)[],
  done: string,
): Promise<void> {
  const wish = [action, ...targets].join(' ');
  if (underWay.has(wish)) return;
  underWay.add(wish);
  try {
    let requests = 0;
    for (const run of targets) requests += (await api?.control(action, run))?.requests ?? 0;
    tellDone(done === askedAgain && requests === 0 ? 'Nothing is left to be asked for again.' : done);
    await refresh();
  } catch (error) {
    if (error instanceof WrongKey) askForKey(error.message);
    else tellProblem(error);
  } finally {
    underWay.delete(wish);
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

function renderTags(): void {
  if (mirror !== undefined) showTags(mirror, openedRun());
}

function toTags(): void {
  turnTo(0);
  renderTags();
  byId('tags').scrollIntoView();
  byId('tags-title').focus({ preventScroll: true });
}

document.addEventListener('click', ({ target }) => {
  const element = target instanceof Element ? target.closest<HTMLElement>('[data-do]') : null;
  if (element !== null) acts[element.dataset.do ?? '']?.(element);
});
loginForm.addEventListener('submit', (event) => {
  event.preventDefault();
  logIn(cleanKey(keyField.value));
});
byId('sure-yes').addEventListener('click', () => sureDialog.close('yes'));
byId('sure-no').addEventListener('click', () => sureDialog.close());
byId('filters').addEventListener('input', () => {
  turnTo(0);
  renderTags();
});
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
