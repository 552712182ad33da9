/**
 * The progress view of a run, on standard error: standard output stays the result's.
 * State and rendering are pure; `showProgress` is the thin part that owns a terminal.
 */
import { escapeControls } from '../log.ts';
import type { SyncEvent } from '../sync/runs/events.ts';
import { formatBytes, formatCount, formatDuration, plural, truncate } from './format.ts';

export interface ProgressState {
  readonly startedAt: number;
  /** Tags seen, a rule each, while listings run. */
  readonly listed: Map<string, number>;
  /** Lines to be worked on, all rules together. */
  planned: number;
  /** Lines that ended otherwise than `unchanged`. */
  ended: number;
  unchanged: number;
  failed: number;
  deferred: number;
  /** Bytes that targets have confirmed in this run. */
  readonly bytes: Meter;
  readonly transfers: Map<string, Transfer>;
  /** Until when nothing goes to a host. */
  readonly waiting: Map<string, number>;
}

interface Transfer {
  readonly target: string;
  readonly digest: string;
  readonly size: number;
  readonly bytes: Meter;
}

/** A growing figure and how fast it grew lately. */
interface Meter {
  total: number;
  readonly samples: { at: number; total: number }[];
}

const meterWindow = 10_000;
const meterStep = 250;

function meter(total: number, now: number): Meter {
  return { total, samples: [{ at: now, total }] };
}

function advance(meter: Meter, total: number, now: number): void {
  meter.total = total;
  const last = meter.samples.at(-1);
  if (last !== undefined && now - last.at < meterStep) return;
  meter.samples.push({ at: now, total });
  while (meter.samples.length > 2 && (meter.samples[1]?.at ?? now) < now - meterWindow) meter.samples.shift();
}

/** Bytes a second over ten seconds of movement and the silence since; `undefined` until there is something to say. */
function rateOf({ total, samples }: Meter, now: number): number | undefined {
  const first = samples[0];
  if (first === undefined || now - first.at < 2 * meterStep || total <= first.total) return undefined;
  return ((total - first.total) * 1000) / (now - first.at);
}

export function startProgress(now: number): ProgressState {
  return {
    startedAt: now,
    listed: new Map(),
    planned: 0,
    ended: 0,
    unchanged: 0,
    failed: 0,
    deferred: 0,
    bytes: meter(0, now),
    transfers: new Map(),
    waiting: new Map(),
  };
}

/** Takes one event into the state. */
export function advanceProgress(state: ProgressState, event: SyncEvent, now: number): void {
  switch (event.type) {
    case 'listing':
      state.listed.set(event.rule, event.tags);
      return;
    case 'planned':
      state.planned += event.lines;
      return;
    case 'line':
      countLine(state, event.line.outcome);
      return;
    case 'blobStarted': {
      const { target, digest, size } = event;
      state.transfers.set(event.id, { target, digest, size, bytes: meter(event.offset, now) });
      return;
    }
    case 'blobProgress':
      advanceTransfer(state, event.id, event.offset, now);
      return;
    case 'blobEnded':
      state.transfers.delete(event.id);
      return;
    case 'waiting':
      state.waiting.set(event.host, event.until);
      return;
    case 'log':
      return;
  }
}

function countLine(state: ProgressState, outcome: string): void {
  if (outcome === 'unchanged') state.unchanged += 1;
  else state.ended += 1;
  if (outcome === 'failed') state.failed += 1;
  if (outcome === 'deferred') state.deferred += 1;
}

function advanceTransfer(state: ProgressState, id: string, offset: number, now: number): void {
  const transfer = state.transfers.get(id);
  if (transfer === undefined) return;
  // A lost session starts again at zero: what is sent twice is counted twice, as the network does.
  const gained = Math.max(0, offset - transfer.bytes.total);
  advance(transfer.bytes, offset, now);
  advance(state.bytes, state.bytes.total + gained, now);
}

export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
}

/** The view as lines, each shorter than the screen is wide, fewer than it is high. */
export function renderProgress(state: ProgressState, size: ScreenSize, now: number): string[] {
  // The last column stays free: a full line would wrap on some terminals.
  const width = Math.max(1, size.columns - 1);
  const waits = [...state.waiting].filter(([, until]) => until > now);
  const transfers = [...state.transfers.values()];
  const lines = [
    renderTotals(state, width, now),
    ...waits.map(([host, until]) =>
      truncate(` waiting ${formatDuration(until - now)} for ${escapeControls(host)}`, width),
    ),
    ...transfers.map((transfer) => renderTransfer(transfer, width, now)),
  ];
  const room = Math.max(1, size.rows - 1);
  if (lines.length <= room) return lines;
  if (room === 1) return lines.slice(0, 1);
  const hidden = lines.length - (room - 1);
  return [...lines.slice(0, room - 1), truncate(` and ${hidden} more`, width)];
}

function renderTotals(state: ProgressState, width: number, now: number): string {
  const total = Math.max(state.planned, state.ended);
  if (total === 0) return renderListing(state, width);
  const rate = rateOf(state.bytes, now);
  const left = timeLeft(state, now);
  return fitParts(width, [
    { text: bar(state.ended / total), rank: 6 },
    { text: `${formatCount(state.ended)}/${plural(total, 'tag')}`, rank: 0 },
    { text: state.failed > 0 ? `${formatCount(state.failed)} failed` : '', rank: 1 },
    { text: state.deferred > 0 ? `${formatCount(state.deferred)} deferred` : '', rank: 5 },
    { text: formatBytes(state.bytes.total), rank: 4 },
    { text: rate === undefined ? '' : `${formatBytes(rate)}/s`, rank: 2 },
    { text: left === undefined ? '' : `${formatDuration(left)} left`, rank: 3 },
    { text: state.unchanged > 0 ? `${formatCount(state.unchanged)} unchanged` : '', rank: 7 },
  ]);
}

function renderListing(state: ProgressState, width: number): string {
  const tags = [...state.listed.values()].reduce((sum, count) => sum + count, 0);
  const seen = tags + state.unchanged;
  return truncate(seen === 0 ? 'comparing…' : `comparing… ${plural(seen, 'tag')}`, width);
}

function renderTransfer(transfer: Transfer, width: number, now: number): string {
  const { total } = transfer.bytes;
  const share = transfer.size === 0 ? 1 : Math.min(1, total / transfer.size);
  const rate = rateOf(transfer.bytes, now);
  const left = rate === undefined ? '' : `${formatDuration(((transfer.size - total) / rate) * 1000)} left`;
  return fitParts(width, [
    { text: ` ${transfer.digest.replace(/^[^:]*:/, '').slice(0, 12)}`, rank: 1 },
    { text: `${Math.floor(share * 100)}%`.padStart(4), rank: 0 },
    { text: bar(share), rank: 5 },
    { text: `${formatBytes(total)} of ${formatBytes(transfer.size)}`, rank: 4 },
    { text: rate === undefined ? '' : `${formatBytes(rate)}/s`, rank: 2 },
    { text: left, rank: 3 },
    { text: escapeControls(transfer.target), rank: 6 },
  ]);
}

/**
 * By tags done so far, and never less than the blobs in flight still need; `undefined` until the first tag is done
 * or a rate is known.
 */
function timeLeft(state: ProgressState, now: number): number | undefined {
  const total = Math.max(state.planned, state.ended);
  const byTags =
    state.ended === 0 ? undefined : ((now - state.startedAt) / state.ended) * (total - state.ended);
  const rate = rateOf(state.bytes, now);
  const open = [...state.transfers.values()].reduce((sum, { size, bytes }) => sum + size - bytes.total, 0);
  const byBytes = rate === undefined ? undefined : (open / rate) * 1000;
  if (byTags === undefined) return byBytes;
  return Math.max(byTags, byBytes ?? 0);
}

interface Part {
  readonly text: string;
  /** Lower stays longer when the line grows narrow. */
  readonly rank: number;
}

/** Keeps the parts of the lowest ranks that fit together, in their order. */
function fitParts(width: number, parts: readonly Part[]): string {
  const kept = new Set<Part>();
  let used = -2;
  for (const part of [...parts].sort((a, b) => a.rank - b.rank)) {
    if (part.text === '') continue;
    const needed = part.text.length + 2;
    if (kept.size > 0 && used + needed > width) break;
    kept.add(part);
    used += needed;
  }
  const line = parts.filter((part) => kept.has(part)).map((part) => part.text);
  return truncate(line.join('  '), width);
}

const barWidth = 20;

function bar(share: number): string {
  const done = Math.floor(Math.min(1, share) * barWidth);
  const head = done < barWidth ? '>' : '';
  return `[${'='.repeat(done)}${head}${' '.repeat(barWidth - done - head.length)}]`;
}

/** Where the view is drawn: a terminal's standard error. */
export interface Terminal {
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

export interface Progress {
  onEvent(event: SyncEvent): void;
  /** Writes a line of the log; on a terminal above the view. */
  print(line: string): void;
  /** Takes the view away. */
  stop(): void;
}

const frameTime = 100;

/** A view that is redrawn at most ten times a second and follows the terminal's size. */
export function showProgress(terminal: Terminal): Progress {
  const state = startProgress(Date.now());
  let drawn: readonly string[] = [];
  let drawnAt = 0;
  // An unknown or absurd size is the usual one.
  const size = (): ScreenSize => ({ columns: terminal.columns || 80, rows: terminal.rows || 24 });
  const draw = (above: string): void => {
    const now = Date.now();
    const lines = renderProgress(state, size(), now);
    if (above === '' && lines.join('\n') === drawn.join('\n')) return;
    terminal.write(`${erase(drawn, size().columns)}${above}${lines.join('\n')}`);
    drawn = lines;
    drawnAt = now;
  };
  const clear = (below: string): void => {
    terminal.write(`${erase(drawn, size().columns)}${below}`);
    drawn = [];
  };
  const timer = setInterval(() => draw(''), frameTime);
  timer.unref();
  return {
    onEvent: (event) => advanceProgress(state, event, Date.now()),
    print: (line) => {
      // Between two frames the line stands alone; the next frame comes below it.
      if (Date.now() - drawnAt < frameTime) clear(`${line}\n`);
      else draw(`${line}\n`);
    },
    stop: () => {
      clearInterval(timer);
      clear('');
    },
  };
}

/** Goes back to the view's first row, which may have wrapped since when the terminal became narrower, and clears below. */
function erase(lines: readonly string[], columns: number): string {
  if (lines.length === 0) return '';
  const rows = lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
  return `\r${rows > 1 ? `\u001b[${rows - 1}A` : ''}\u001b[J`;
}

const plainInterval = 30_000;

/** Where no terminal reads: the log's lines, and every half minute one that says where the run stands. */
export function tellProgress(
  output: Terminal,
  tell: (fields: Readonly<Record<string, string | number>>) => void,
): Progress {
  const state = startProgress(Date.now());
  let toldBytes = -1;
  let toldEnded = -1;
  const timer = setInterval(() => {
    if (state.bytes.total === toldBytes && state.ended === toldEnded) return;
    toldBytes = state.bytes.total;
    toldEnded = state.ended;
    tell(progressFields(state, Date.now()));
  }, plainInterval);
  timer.unref();
  return {
    onEvent: (event) => advanceProgress(state, event, Date.now()),
    print: (line) => {
      output.write(`${line}\n`);
    },
    stop: () => clearInterval(timer),
  };
}

function progressFields(state: ProgressState, now: number): Record<string, string | number> {
  const rate = rateOf(state.bytes, now);
  const left = timeLeft(state, now);
  return {
    ended: state.ended,
    planned: Math.max(state.planned, state.ended),
    bytes: state.bytes.total,
    ...(rate === undefined ? {} : { rate: `${formatBytes(rate)}/s` }),
    ...(left === undefined ? {} : { left: formatDuration(left) }),
  };
}
