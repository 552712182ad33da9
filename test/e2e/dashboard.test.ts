/** The dashboard in a real browser. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { buildDashboard } from '../../esbuild.dashboard.ts';
import type { Line } from '../../lib/sync/runs/report.ts';
import { hasBrowser, launchBrowser } from '../local/browser.ts';
import {
  type Canned,
  type DashboardServer,
  dashboardKey,
  lineOf,
  pushesOf,
  realisticHistory,
  reportOf,
  runAt,
  startDashboard,
} from '../local/dashboard.ts';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const minute = 60_000;

function fullRun(lines: readonly Line[], ago = 30 * minute): Canned['reports'][number] {
  return reportOf(runAt('schedule', Date.now() - ago, 4000), lines);
}

/** A browser is slow where all its processes share two busy cores. */
const patience = { timeout: 2 * minute };

describe.skipIf(!hasBrowser)('the dashboard', patience, () => {
  let browser: Browser;
  let server: DashboardServer;
  let faults: string[];

  beforeAll(async () => {
    browser = await launchBrowser();
    server = await startDashboard({ reports: [] });
  });
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  });
  afterEach(async () => {
    server.intercept = undefined;
    await Promise.all(browser.contexts().map((context) => context.close()));
    expect(faults).toEqual([]);
  });

  /** Opens the page; what the browser complains about is a fault of the test's page. */
  async function open(canned: Canned, options: BrowserContextOptions = {}): Promise<Page> {
    faults = [];
    server.canned = canned;
    server.requests.length = 0;
    server.controls.length = 0;
    const context = await browser.newContext({ timezoneId: 'UTC', ...options });
    context.setDefaultTimeout(minute);
    const page = await context.newPage();
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error' && !/^Failed to load resource/.test(message.text()))
        faults.push(message.text());
    });
    await page.goto(`${server.url}/api/dashboard`);
    return page;
  }

  async function enter(page: Page, key = dashboardKey): Promise<void> {
    await page.getByLabel('Function key').fill(key);
    await page.getByRole('button', { name: 'Show the mirror' }).click();
  }

  async function show(canned: Canned, options: BrowserContextOptions = {}): Promise<Page> {
    const page = await open(canned, options);
    await enter(page);
    await page.locator('#verdict h2').waitFor();
    return page;
  }

  async function hasFocus(element: Locator): Promise<boolean> {
    return element.evaluate((one) => one.matches(':focus'));
  }

  async function axeFinds(page: Page): Promise<string[]> {
    // Through the debugger: the page's own policy lets no other script in.
    await page.evaluate(axe);
    const { violations } = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>(
      `axe.run({ resultTypes: ['violations'] })`,
    );
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  }

  it('is one page without data that asks for a key, and asks nobody else for anything', async () => {
    const { body, headers } = await buildDashboard();
    expect(body.length).toBeLessThan(60_000);
    expect(headers).toMatchObject({ 'Cache-Control': 'no-store', 'Referrer-Policy': 'no-referrer' });
    expect(headers['Content-Security-Policy']).not.toContain('unsafe');
    const page = await open(realisticHistory(Date.now()));
    expect(await page.locator('#content').isVisible()).toBe(false);
    expect(await hasFocus(page.getByLabel('Function key'))).toBe(true);
    expect(server.requests.map(({ url }) => url)).toEqual(['/api/dashboard']);
    expect(await axeFinds(page)).toEqual([]);
  });

  it('keeps the key for the session of the tab, sends it in a header alone, and forgets it when told', async () => {
    const page = await show(realisticHistory(Date.now()));
    const asked = server.requests.filter(({ url }) => url !== '/api/dashboard');
    expect(new Set(asked.map(({ headers }) => headers['x-functions-key']))).toEqual(new Set([dashboardKey]));
    expect(asked.filter(({ url }) => url.includes(dashboardKey))).toEqual([]);
    expect(asked.filter(({ headers }) => headers.referer !== undefined)).toEqual([]);
    await page.reload();
    await page.locator('#verdict h2').waitFor();
    await page.getByRole('button', { name: 'Forget the key' }).click();
    await page.getByLabel('Function key').waitFor();
    expect(await page.evaluate('[sessionStorage.length, localStorage.length]')).toEqual([0, 0]);
    expect(await page.locator('#content').isVisible()).toBe(false);
    expect(await page.content()).not.toContain('azurecr');
  });

  it('says that a key is wrong, and takes the right one then', async () => {
    const page = await open({ reports: [fullRun([lineOf('nginx', '1.0', 'unchanged')])] });
    await enter(page, 'wrong');
    await page.getByText('The app refuses this key.').waitFor();
    expect(await page.getByLabel('Function key').getAttribute('aria-invalid')).toBe('true');
    await enter(page);
    await page.getByRole('heading', { name: 'Everything is in step' }).waitFor();
  });

  it('takes a key with white space and invisible characters around it, and refuses what can be none', async () => {
    const page = await open({ reports: [fullRun([lineOf('nginx', '1.0', 'unchanged')])] });
    for (const key of ['the-right-key…', '\u200B']) {
      await enter(page, key);
      await page.getByText('The app refuses this key.').waitFor();
      expect(await page.getByLabel('Function key').isVisible()).toBe(true);
      expect(await page.evaluate('sessionStorage.length')).toBe(0);
    }
    await enter(page, ` \u200B${dashboardKey}\uFEFF\t`);
    await page.getByRole('heading', { name: 'Everything is in step' }).waitFor();
  });

  it('lets the key be forgotten where the app has never answered', async () => {
    const page = await open({ reports: [] });
    server.intercept = ({ url }) =>
      url.startsWith('/api/status') ? { kind: 'answer', status: 503 } : undefined;
    await enter(page);
    await page.getByRole('alert').getByText('The app answers with status 503.').waitFor();
    await page.getByRole('button', { name: 'Forget the key' }).click();
    await page.getByLabel('Function key').waitFor();
  });

  it('shows and says nothing of the mirror any more when the key ends, and can be entered again', async () => {
    const page = await open(realisticHistory(Date.now()));
    await page.clock.install();
    await enter(page);
    await page
      .getByRole('button', { name: /^Cancel/ })
      .first()
      .click();
    await page.getByRole('dialog').waitFor();
    server.intercept = ({ url }) =>
      url.startsWith('/api/status') ? { kind: 'answer', status: 401 } : undefined;
    await page.clock.fastForward(3 * minute);
    await page.getByText('The app refuses this key.').waitFor();
    expect(await page.getByRole('dialog').isVisible()).toBe(false);
    expect(await page.title()).toBe('hubferry');
    expect(await page.content()).not.toContain('azurecr');
    expect(await page.locator('#announcement').textContent()).toBe('');
    expect(await page.getByRole('button').allTextContents()).toEqual(['Show the mirror']);
    server.intercept = undefined;
    await enter(page);
    await page.locator('#verdict h2').waitFor();
    expect(server.controls).toEqual([]);
  });

  it('says what there is when there is nothing yet', async () => {
    const page = await show({ reports: [] });
    expect(await page.locator('#verdict h2').textContent()).toBe('No run yet');
    expect(await page.getByText('No run has finished yet.').isVisible()).toBe(true);
    expect(await axeFinds(page)).toEqual([]);
  });

  it('says that the app fails, with the code and the remedy, keeps what it knew, and recovers by itself', async () => {
    const page = await show({ reports: [fullRun([lineOf('nginx', '1.0', 'unchanged')])] });
    await page.clock.install();
    const body = JSON.stringify({ error: { code: 'ERR_STORAGE', message: 'The account is away' } });
    server.intercept = ({ url }) =>
      url.startsWith('/api/status') ? { kind: 'answer', status: 503, body } : undefined;
    await page.reload();
    const problem = page.getByRole('alert').filter({ hasText: 'The account is away' });
    await problem.getByText('Check the storage account').waitFor();
    server.intercept = undefined;
    await page.clock.fastForward(3 * minute);
    await page.getByRole('heading', { name: 'Everything is in step' }).waitFor();
    expect(await problem.count()).toBe(0);
    server.intercept = () => ({ kind: 'reset' });
    await page.clock.fastForward(3 * minute);
    await page.getByText('The app cannot be reached.').waitFor();
    expect(await page.getByRole('heading', { name: 'Everything is in step' }).isVisible()).toBe(true);
  });

  it('shows what it could read where one report fails, says so, and that it reads at first', async () => {
    const lines = [lineOf('nginx', '1.0', 'unchanged')];
    const broken = reportOf(runAt('webhook', Date.now() - minute, 1000), lines);
    const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
    const page = await open({ reports: [fullRun(lines), broken] });
    server.intercept = async ({ url }) => {
      await mayAnswer;
      return url.endsWith(broken.run.id) ? { kind: 'answer', status: 500 } : undefined;
    };
    await enter(page);
    await page.getByText('Reading …').waitFor();
    answer();
    await page.getByRole('heading', { name: 'Not all is known' }).waitFor();
    expect(await page.locator('#lines tbody tr').count()).toBe(1);
    await page.getByRole('alert').getByText('The app answers with status 500.').waitFor();
  });

  it('follows what happens, and leaves alone what the reader opened and chose', async () => {
    const lines = [lineOf('nginx', '1.0', 'unchanged'), lineOf('redis', '8', 'unchanged')];
    const page = await open({ reports: [fullRun(lines)] });
    await page.clock.install();
    await page.reload();
    await enter(page);
    await page.getByRole('heading', { name: 'Everything is in step' }).waitFor();
    await page.getByText('The plots as a table').click();
    await page.getByLabel('Rule', { exact: true }).selectOption('redis');
    await page.getByLabel('Search').focus();
    const error = { code: 'ERR_SERVER', message: 'The registry is ill' } as const;
    server.canned = {
      reports: [fullRun([lineOf('redis', '8', 'failed', { error })], minute), fullRun(lines)],
    };
    await page.clock.fastForward(3 * minute);
    await page.getByRole('heading', { name: '1 tag not in step' }).waitFor();
    expect(await page.locator('#announcement').textContent()).toContain('1 tag not in step');
    expect(await page.locator('details.numbers').getAttribute('open')).not.toBeNull();
    expect(await page.getByLabel('Rule', { exact: true }).inputValue()).toBe('redis');
    expect(await hasFocus(page.getByLabel('Search'))).toBe(true);
  });

  it('tells of a tag that failed in a push whose run is listed no more, and lets it be tried again', async () => {
    const reports = [fullRun([lineOf('nginx', '1.0', 'unchanged')])];
    const error = { code: 'ERR_SERVER', message: 'The registry is ill' } as const;
    const lines = [lineOf('nginx', '2.0', 'failed', { error })];
    const pushes = pushesOf({ reports }, lines);
    const page = await show({ reports, pushes });
    expect(await page.locator('#verdict h2').textContent()).toBe('1 tag not in step');
    await page.getByRole('button', { name: 'Try failed tags again' }).click();
    await page.getByText('What failed is asked for again.').waitFor();
    expect(server.controls).toEqual([{ action: 'retry', run: 'pushes' }]);
  });

  it('calls nothing in step where more happened than is kept, or a report is gone', async () => {
    const reports = [fullRun([lineOf('nginx', '1.0', 'unchanged')])];
    const pushes = pushesOf({ reports });
    for (const partial of [{ complete: false }, { others: ['gone'] }]) {
      const page = await show({ reports, pushes: { ...pushes, ...partial } });
      expect(await page.locator('#verdict h2').textContent()).toBe('Not all is known');
    }
  });

  it('groups what is wrong by its cause, with the remedy, and what is parked by its time', async () => {
    const page = await show(realisticHistory(Date.now()));
    const cause = page.getByRole('article').filter({ hasText: 'ERR_BLOB_MISSING' });
    expect(await cause.count()).toBe(1);
    expect(await cause.getByText('Ask the publisher to push it again.').isVisible()).toBe(true);
    expect(await cause.getByRole('listitem').count()).toBeGreaterThan(1);
    expect(await page.locator('#parked').getByText('rate limit').isVisible()).toBe(true);
  });

  it('shows what is being copied, how far it is and how fast it goes', async () => {
    const began = Date.now();
    const blob = { target: 'x.azurecr.io/nginx', digest: `sha256:${'a'.repeat(64)}`, size: 1000 << 20 };
    const reports = [reportOf(runAt('webhook', began), [])];
    const page = await open({ reports, copying: [{ ...blob, offset: 100 << 20, savedAt: began }] });
    await page.clock.install();
    await page.reload();
    await enter(page);
    await page.getByText('100 MiB of 1000 MiB').waitFor();
    server.canned = { reports, copying: [{ ...blob, offset: 200 << 20, savedAt: began + 5000 }] };
    await page.clock.fastForward(3 * minute);
    await page.getByText('200 MiB of 1000 MiB · 20.0 MiB/s · 40 s left').waitFor();
    expect(await page.getByRole('progressbar').evaluate(({ position }) => position)).toBe(0.2);
  });

  it('shows how an open run stands, and since when and why one is stuck', async () => {
    const run = runAt('manual', Date.now() - 180 * minute);
    const since = new Date(Date.now() - 120 * minute).toISOString();
    const stuck = {
      run,
      state: 'stuck',
      since,
      why: 'Nothing was heard of 2 requests',
      out: 2,
      parked: 1,
      examples: [],
    } as const;
    const page = await show({
      reports: [fullRun([lineOf('a', '1', 'same')]), reportOf(run, [])],
      open: [stuck],
    });
    expect(await page.locator('#verdict h2').textContent()).toBe('A run is stuck');
    expect(await page.locator('#work').textContent()).toContain(
      'Nothing was heard of 2 requests · 2 requests out, 1 parked, last heard 2 hours ago',
    );
  });

  it('sends what its buttons say, and asks before it cancels', async () => {
    const canned = realisticHistory(Date.now());
    const page = await show(canned);
    const open = canned.reports.find(({ run }) => run.finishedAt === undefined)?.run.id;
    const failed = canned.reports.find(({ totals }) => totals.failed)?.run.id;
    await page.getByRole('button', { name: 'Pause copying' }).click();
    await page.getByText('Copying is paused.').waitFor();
    server.canned = { ...canned, paused: true };
    await page.reload();
    await page.locator('#verdict').getByText('Copying is paused.').waitFor();
    await page.getByRole('button', { name: 'Resume copying' }).click();
    await page.getByText('Copying goes on.').waitFor();
    await page.getByRole('button', { name: `Cancel ${open}` }).click();
    await page.getByRole('button', { name: 'No, go on' }).click();
    await page.getByRole('button', { name: `Cancel ${open}` }).click();
    await page.getByRole('button', { name: 'Cancel the run' }).click();
    await page.getByText('The run is cancelled.').waitFor();
    await page.getByRole('button', { name: 'Try failed tags again' }).click();
    await page.getByText('What failed is asked for again.').waitFor();
    await page.getByRole('button', { name: `Retry what failed in ${failed}` }).click();
    await expect
      .poll(() => server.controls)
      .toEqual([
        { action: 'pause' },
        { action: 'resume' },
        { action: 'cancel', run: open },
        { action: 'retry', run: failed },
        { action: 'retry', run: failed },
      ]);
  });

  it('asks once where a button is pressed twice', async () => {
    const page = await show(realisticHistory(Date.now()));
    const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
    server.intercept = async ({ method }) => {
      if (method === 'POST') await mayAnswer;
      return undefined;
    };
    await page.getByRole('button', { name: 'Try failed tags again' }).dblclick();
    answer();
    await page.getByText('What failed is asked for again.').waitFor();
    await page.getByRole('button', { name: 'Pause copying' }).click();
    await page.getByText('Copying is paused.').waitFor();
    expect(server.controls).toMatchObject([{ action: 'retry' }, { action: 'pause' }]);
  });

  it('reads and shows the open runs that the app tells of, and how many more there are', async () => {
    const open = Array.from({ length: 60 }, (_, nth) => runAt('webhook', Date.now() - nth * minute));
    const reports = open.map((run) => reportOf(run, [lineOf('nginx', run.id, 'deferred')]));
    const page = await show({ reports: [...reports, fullRun([lineOf('nginx', '1', 'unchanged')])] });
    expect(await page.locator('#work .open > li').count()).toBe(21);
    await page.getByText('and 40 more').waitFor();
    const read = server.requests.filter(({ url }) => url.includes('-webhook'));
    expect(read).toHaveLength(20);
  });

  it('says why an action was refused', async () => {
    const page = await show(realisticHistory(Date.now()));
    const body = JSON.stringify({ error: { code: 'ERR_STORAGE', message: 'The account is away' } });
    server.intercept = ({ method }) =>
      method === 'POST' ? { kind: 'answer', status: 503, body } : undefined;
    await page.getByRole('button', { name: 'Pause copying' }).click();
    await page.getByRole('alert').getByText('ERR_STORAGE').waitFor();
  });

  it('shows the tags of one run, and a link to it leads there', async () => {
    const page = await show(realisticHistory(Date.now()));
    const link = page
      .locator('#runs')
      .getByRole('link', { name: /webhook/ })
      .first();
    const run = await link.textContent();
    await link.click();
    await page.getByRole('heading', { name: `Tags of run ${run}` }).waitFor();
    expect(await page.locator('#lines tbody tr').count()).toBe(1);
    expect(await page.locator('#about').textContent()).toContain('1 copied');
    await page.getByText('What took longest').click();
    await page.reload();
    await page.getByRole('heading', { name: `Tags of run ${run}` }).waitFor();
    await page.getByRole('button', { name: 'Show the mirror as it stands' }).click();
    await page.getByRole('heading', { name: 'Tags', exact: true }).waitFor();
  });

  it('searches and pages through ten thousand tags without delay', async () => {
    const lines = Array.from({ length: 10_000 }, (_, index) =>
      lineOf(`app-${index % 4}`, `v${index}`, 'unchanged'),
    );
    const page = await show({ reports: [fullRun(lines)] });
    const rows = page.locator('#lines tbody tr');
    await page.getByText('of 10,000 tags').waitFor();
    expect(await rows.count()).toBe(25);
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('26–50 of 10,000 tags').waitFor();
    const tookMs = await page.evaluate<number>(`
      search.value = 'app-3 v9999';
      const began = performance.now();
      search.dispatchEvent(new Event('input', { bubbles: true }));
      performance.now() - began;
    `);
    expect(await rows.count()).toBe(1);
    expect(tookMs).toBeLessThan(1000);
  });

  it('shows names and messages as they are, whatever they try to be', async () => {
    const evil = `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`;
    const said = { reason: evil, digest: evil };
    const line = lineOf(evil, evil, 'failed', { ...said, error: { code: 'ERR_SERVER', message: evil } });
    const odd = { code: evil, message: evil } as unknown as NonNullable<Line['error']>;
    const lines = [
      lineOf('constructor', '__proto__', evil),
      lineOf('nginx', evil, 'failed', { ...said, error: odd }),
    ];
    const page = await show({
      reports: [fullRun([line]), reportOf(runAt('webhook', Date.now()), lines)],
      rulesError: odd,
      copying: [{ target: evil, digest: evil, size: 2, offset: 1, savedAt: 0 }],
      parked: { count: 1, groups: [{ reason: evil, count: 1, until: evil, examples: [evil] }] },
    });
    await page.locator('#causes').getByText(evil).first().waitFor();
    await page.goto(`${server.url}/api/dashboard#run=${encodeURIComponent(evil)}%`);
    await page.locator('#verdict h2').waitFor();
    expect(await page.title()).toMatch(/ · hubferry$/);
    expect(await page.locator('img, script:not(:last-child)').count()).toBe(0);
  });

  it.each(['light', 'dark'] as const)(
    'is for everybody in its %s colours: axe finds nothing',
    async (colorScheme) => {
      const page = await show(realisticHistory(Date.now()), { colorScheme });
      expect(await axeFinds(page)).toEqual([]);
      const ground = await page.evaluate<string>('getComputedStyle(document.body).backgroundColor');
      const [red = 0] = ground.match(/\d+/g)?.map(Number) ?? [];
      expect(red > 128).toBe(colorScheme === 'light');
    },
  );

  it('fits a phone: nothing is cut off or to be scrolled sideways', async () => {
    const long = 'a'.repeat(128);
    const canned = realisticHistory(Date.now());
    canned.reports.push(reportOf(runAt('webhook', Date.now() - minute, 1), [lineOf(long, long, 'failed')]));
    for (const width of [360, 320]) {
      const page = await show(canned, { viewport: { width, height: 740 } });
      const widths = await page.evaluate(`({
        page: document.documentElement.scrollWidth,
        wide: [...document.querySelectorAll('body *:not(.unseen)')]
          .filter((element) => element.getBoundingClientRect().right > innerWidth - (element.closest('section') ? 11.5 : -0.5))
          .map(({ outerHTML }) => outerHTML.slice(0, 80)),
      })`);
      expect(widths).toEqual({ page: width, wide: [] });
      expect(await axeFinds(page)).toEqual([]);
    }
  });

  it('can be used by keyboard alone', async () => {
    const page = await open(realisticHistory(Date.now()));
    await page.keyboard.type(dashboardKey);
    await page.keyboard.press('Enter');
    await page.locator('#verdict h2').waitFor();
    const next = page.getByRole('button', { name: 'Next' });
    await next.focus();
    await page.keyboard.press('Enter');
    await page.getByText('26–50 of').waitFor();
    expect(await hasFocus(next)).toBe(true);
    await page
      .getByRole('button', { name: /^Cancel/ })
      .first()
      .focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    expect(server.controls).toEqual([]);
  });
});
