import * as z from 'zod';
import { HubferryError, summarize } from '../../errors.ts';
import type { DocumentStore } from '../../storage/ports.ts';
import { forEachOf, Rounds } from '../concurrency.ts';
import { parseRunId } from '../run-id.ts';
import { parseStored } from '../stored.ts';
import { longestOf } from './blob-times.ts';
import { Looks } from './looks.ts';
import type { ParkingLot } from './parked.ts';
import { DamagedError, encode, PartStore } from './part-store.ts';
import {
  keyOfPart,
  latest,
  linesIn,
  linesOf,
  type Opened,
  type Part,
  type PartName,
  prefixOf,
  type Sent,
  transferOf,
  withTimes,
} from './parts.ts';
import {
  type AnyReport,
  buildReport,
  type Line,
  type RunHeader,
  syncOutcomes,
  type Trigger,
  triggers,
  verifyFindings,
} from './report.ts';
import { noteRun, readRun, reportKey } from './runs.ts';
import { noTransfer } from './tally.ts';

/** What opens a run or joins one: its requests are sent after it is in the book. */
export interface Opening {
  readonly run: string;
  readonly trigger: Trigger;
  readonly startedAt: Date;
  /** Nothing is to be changed. @default false */
  readonly dryRun?: boolean;
  /** Only some tags are looked at. @default false */
  readonly partial?: boolean;
  /** Until then (milliseconds since the epoch) others may join it, also when nothing is out. */
  readonly sharedUntil?: number;
  /** Its part, which may tell of work that is done; it is asked for again where the run turns out to be closed and the next one is taken. */
  readonly start: (run: string) => Pick<Part, 'opened' | 'sends'> & Partial<Omit<Part, 'id'>>;
  /** Names the opener within the run. */
  readonly opener: string;
}

/** How an open run stands. */
export interface Standing {
  readonly header: RunHeader;
  /** Requests that have no part yet, or were sent again since. */
  readonly missing: readonly Opened[];
  /** Requests that wait for their time. */
  readonly parked: readonly PartName[];
  /** Milliseconds since the epoch: the last part's. */
  readonly writtenAt: number;
  /** The same, or a parked one's time where that is later. */
  readonly heardAt: number;
}

/** Told of each run that closes, before it counts as closed for good; a second time only after a crash in between. */
export type Announce = (report: AnyReport) => Promise<void>;

export type Closing = 'open' | 'closed' | 'closed before';

const headerSchema = z.object({
  id: z.string(),
  trigger: z.enum(triggers),
  startedAt: z.string(),
  dryRun: z.literal(true).optional(),
  partial: z.literal(true).optional(),
  sharedUntil: z.number().optional(),
  /** Its maker has not yet looked whether the run closed long ago. */
  unproven: z.literal(true).optional(),
  /** Somebody closes it; what is out then ends as lost or cancelled. */
  closing: z
    .object({
      /** When that began, in milliseconds since the epoch. */
      at: z.number(),
      because: z.enum(['complete', 'lost', 'cancelled']),
      /** The report is written and announced; what is left is to be deleted. */
      announced: z.boolean(),
    })
    .optional(),
});
type Header = z.infer<typeof headerSchema>;
interface OpenHeader {
  readonly header: Header;
  readonly etag: string;
}
type Reason = NonNullable<Header['closing']>['because'];

/** Why a run may be closed while something is out: it was cancelled, or nobody has heard of it since (milliseconds since the epoch). */
export type GiveUp = 'cancelled' | { readonly before: number };

/** From so far ahead on a parked tag belongs to the next run: the daily plan finds it again. */
const nextPlanMs = 24 * 3600_000;
const minuteMs = 60_000;
/** Who closes a run and takes longer has crashed. */
const closingMs = 5 * 60_000;
const partsAtOnce = 16;

export class RunBook {
  readonly #runs: DocumentStore;
  readonly #parked: ParkingLot | undefined;
  readonly #parts: PartStore;
  readonly #looks = new Looks();
  readonly #rounds = new Rounds<Closing>();

  /** Without a parking, what is parked is told until when it was parked first. */
  constructor(runs: DocumentStore, parked?: ParkingLot) {
    this.#runs = runs;
    this.#parts = new PartStore(runs);
    this.#parked = parked;
  }

  /** Opens the run or joins it; where it is closed already, the one after it. */
  async open({ run: wanted, trigger, startedAt, start, opener, ...about }: Opening): Promise<string> {
    const { dryRun, partial, sharedUntil } = about;
    const marks = { ...(dryRun && { dryRun }), ...(partial && { partial }), sharedUntil };
    for (let nth = 1; ; nth += 1) {
      const run = nth === 1 ? wanted : `${wanted}-${nth}`;
      const part = { id: opener, lines: [], transfer: noTransfer(), ...start(run) };
      await this.#parts.put(run, part);
      const header = { id: run, trigger, startedAt: startedAt.toISOString(), ...marks };
      if (await this.#join(header)) return run;
      await this.#runs.delete(keyOfPart(run, part));
    }
  }

  /**
   * Writes how a request stands, and closes the run where it may have been the last one. A look costs a listing, so it is
   * left out while many are out for certain; `close` at the next full minute makes up for what that misses.
   * @returns what stands: the first end, if the request has ended before; `undefined` where the run was closed already.
   */
  async write(run: string, part: Part, announce: Announce): Promise<Part | undefined> {
    const stands = await (part.parkedUntil === undefined
      ? this.#parts.put(run, part)
      : this.#parts.park(run, part));
    this.#looks.count(run, part.id);
    const closing = this.#looks.isDue(run)
      ? await this.#rounds.run(run, () => this.close(run, announce))
      : await this.#isOver(run);
    if (closing !== 'closed before') return stands;
    await this.#runs.delete(keyOfPart(run, part));
    return (await this.#isTold(run, part)) ? stands : undefined;
  }

  /** Whether the request has ended in this run. */
  async hasEnded(run: string, id: string): Promise<boolean> {
    const names = await this.#parts.names(`${prefixOf(run)}${id}~`);
    return names.some(({ parkedUntil }) => parkedUntil === undefined);
  }

  /** Whether nothing that is found from now on is in its report. */
  async isClosed(run: string): Promise<boolean> {
    return (await this.#header(run)) === undefined;
  }

  /** Closes the run where every request has ended, or is parked past the next plan, or is given up. */
  async close(run: string, announce: Announce, giveUp?: GiveUp): Promise<Closing> {
    const open = await this.#header(run);
    if (open === undefined) return 'closed before';
    const { header, etag } = open;
    const closing = await this.#closing(header, giveUp);
    if (closing === undefined) return 'open';
    const marked = { ...header, closing };
    const markedEtag = await this.#runs.put(headerKey(run), encode(marked), { ifMatch: etag });
    if (markedEtag === undefined) return giveUp === 'cancelled' ? this.close(run, announce, giveUp) : 'open';
    if (await this.#isJoined(marked, giveUp)) {
      const { closing: _, ...open } = header;
      await this.#runs.put(headerKey(run), encode(open), { ifMatch: markedEtag });
      return 'open';
    }
    await this.#finish(marked, announce);
    return 'closed';
  }

  /** A run's report, also of one that is still open. */
  async report(run: string): Promise<AnyReport | undefined> {
    const closed = await readRun(this.#runs, run);
    if (closed !== undefined) return closed;
    const open = await this.#header(run);
    return open === undefined ? undefined : this.#fold(runOf(open.header));
  }

  /** Runs without a report yet. */
  async openRuns(): Promise<string[]> {
    const open: string[] = [];
    for await (const { key } of this.#runs.list('open/'))
      open.push(key.slice('open/'.length, -'.json'.length));
    return open;
  }

  /** Takes away old parts of runs that have closed, or never were: who wrote them died before it knew. */
  async tidy(olderThanMs: number): Promise<void> {
    const before = Date.now() - olderThanMs;
    const open = new Set(await this.openRuns());
    for await (const { key, modifiedAt } of this.#runs.list('parts/')) {
      const [, run = ''] = key.split('/');
      if (modifiedAt < before && !open.has(run)) await this.#runs.delete(key);
    }
  }

  /** How an open run stands; `undefined` where it is closed. */
  async standing(run: string): Promise<Standing | undefined> {
    const open = await this.#header(run);
    return open === undefined ? undefined : this.#standing(open.header);
  }

  /** What an opener is to send; nothing where the run is closed. */
  async sendsOf(run: string, opener: string): Promise<Sent[]> {
    const names = await this.#parts.names(`${prefixOf(run)}${opener}~`);
    const parts = await Promise.all(names.map(({ key }) => this.#parts.get(key)));
    return parts.flatMap((part) => part?.sends ?? []);
  }

  /** What was sent before that time and nobody has heard of since. It counts as sent now. */
  async unheard(run: string, before: number): Promise<Sent[]> {
    const names = await this.#parts.names(prefixOf(run));
    const heard = new Set(names.map(({ id }) => id));
    const old = names.filter(({ sends, writtenAt }) => sends && writtenAt < before);
    const unsent: Sent[] = [];
    for (const { key } of old) {
      const part = await this.#parts.get(key);
      const unheard = part?.sends?.filter(({ message }) => !heard.has(message.id)) ?? [];
      if (part === undefined || unheard.length === 0) continue;
      await this.#runs.put(key, encode(part));
      unsent.push(...unheard);
    }
    return unsent;
  }

  /** Looks at the header, which is made where there is none. False where the run is closed, or about to be. */
  async #join(header: Header): Promise<boolean> {
    for (;;) {
      const open = await this.#header(header.id);
      if (open === undefined) {
        const made = await this.#make(header);
        if (made !== undefined) return made;
      } else {
        const { closing, unproven } = open.header;
        return closing === undefined && !(unproven && (await this.#isReported(header.id)));
      }
    }
  }

  /** A header that is made anew may be of a run that closed long ago. `undefined` where somebody else made it. */
  async #make(header: Header): Promise<boolean | undefined> {
    const key = headerKey(header.id);
    const etag = await this.#runs.put(key, encode({ ...header, unproven: true }), { ifAbsent: true });
    if (etag === undefined) return undefined;
    if (await this.#isReported(header.id)) {
      await this.#runs.delete(key, { ifMatch: etag });
      return false;
    }
    await this.#runs.put(key, encode(header), { ifMatch: etag });
    return true;
  }

  async #isOver(run: string): Promise<Closing> {
    return (await this.isClosed(run)) ? 'closed before' : 'open';
  }

  /** Somebody else may have closed the run in between, with this part in it. */
  async #isTold(run: string, { lines: [first] }: Part): Promise<boolean> {
    const report = await readRun(this.#runs, run);
    const lines: readonly Line[] = report?.tags ?? [];
    const isFirst = ({ target, outcome, startedAt }: Line) =>
      target === first?.target && outcome === first.outcome && startedAt === first.startedAt;
    return lines.some(isFirst);
  }

  async #isReported(run: string): Promise<boolean> {
    return (await readRun(this.#runs, run)) !== undefined;
  }

  /** How the run is to be closed, if it can be. */
  async #closing(header: Header, giveUp: GiveUp | undefined): Promise<Header['closing']> {
    const at = Date.now();
    if (header.closing !== undefined)
      return at - header.closing.at > closingMs ? { ...header.closing, at } : undefined;
    const because = giveUp === 'cancelled' ? giveUp : await this.#because(header, giveUp);
    return because === undefined ? undefined : { at, because, announced: false };
  }

  /** Whether somebody joined before the mark was there: his part was there before. A run that is reported has closed. */
  async #isJoined(header: Header, giveUp: GiveUp | undefined): Promise<boolean> {
    if (giveUp === 'cancelled' || header.closing?.because === 'cancelled') return false;
    if ((await this.#because(header, giveUp)) !== undefined) return false;
    return !(await this.#isReported(header.id));
  }

  async #because(
    header: Header,
    giveUp: { readonly before: number } | undefined,
  ): Promise<Reason | undefined> {
    const startedAt = Date.now();
    const { missing, parked, heardAt } = await this.#standing(header);
    const horizon = Date.parse(header.startedAt) + nextPlanMs;
    // What is released and parked again is written down once: past the next plan it belongs to that. No plan comes in a pause.
    const waiting = parked.filter(
      ({ parkedUntil = 0, paused }) => paused || (startedAt < horizon && parkedUntil < horizon),
    );
    const out = missing.length + waiting.length;
    const growing = missing.filter(({ tags }) => tags === undefined).map(({ id }) => id);
    this.#looks.note(header.id, { out, growing: new Set(growing), tookMs: Date.now() - startedAt });
    if (out === 0) return isShared(header, startedAt) ? undefined : 'complete';
    return giveUp !== undefined && heardAt < giveUp.before ? 'lost' : undefined;
  }

  async #standing(header: Header): Promise<Standing> {
    const names = latest(await this.#parts.names(prefixOf(header.id)));
    const ended = new Set(names.filter(({ parkedUntil }) => parkedUntil === undefined).map(({ id }) => id));
    const parked = names.filter(({ id, parkedUntil, sentAgain }) => {
      return parkedUntil !== undefined && !sentAgain && !ended.has(id);
    });
    const there = new Set([...ended, ...parked.map(({ id }) => id)]);
    const missing = new Map<string, Opened>();
    for (const opened of await this.#opened(header.id, names))
      if (!there.has(opened.id)) missing.set(opened.id, opened);
    const begun = Date.parse(header.startedAt);
    const writtenAt = names.reduce((last, name) => Math.max(last, name.writtenAt), begun);
    return {
      header: runOf(header),
      missing: [...missing.values()],
      parked,
      writtenAt,
      heardAt: names.reduce((last, { parkedUntil = 0 }) => Math.max(last, parkedUntil), writtenAt),
    };
  }

  /** What requests opened; a part never changes, so it is read once. */
  async #opened(run: string, names: readonly PartName[]): Promise<Opened[]> {
    const known = this.#looks.opened(run);
    await forEachOf(
      names.filter(({ key, opens }) => opens && !known.has(key)),
      partsAtOnce,
      async ({ key }) => {
        known.set(key, (await this.#parts.get(key))?.opened ?? []);
      },
    );
    return names.flatMap(({ key }) => known.get(key) ?? []);
  }

  /** Every step may be done twice: after a crash another one begins here again. */
  async #finish(header: Header, announce: Announce): Promise<void> {
    const { id, closing } = header;
    if (closing?.announced !== true) {
      const report = await this.#kept(header);
      await noteRun(this.#runs, report);
      await announce(report);
      await this.#runs.put(headerKey(id), encode({ ...header, closing: { ...closing, announced: true } }));
    }
    await this.#parts.sweep(id);
    await this.#runs.delete(headerKey(id));
    // Who wrote a part meanwhile saw the run still open.
    await this.#parts.sweep(id);
    this.#looks.forget(id);
  }

  /** The report of the first who wrote one: another, who was taken for dead, may be at it too. */
  async #kept(header: Header): Promise<AnyReport> {
    const before = await readRun(this.#runs, header.id);
    if (before !== undefined) return before;
    const report = await this.#finished(header);
    const isFirst =
      (await this.#runs.put(reportKey(header.id), encode(report), { ifAbsent: true })) !== undefined;
    return isFirst ? report : ((await readRun(this.#runs, header.id)) ?? report);
  }

  /** The report, in which what is still out was given up. */
  async #finished(header: Header): Promise<AnyReport> {
    const run = { ...runOf(header), finishedAt: new Date().toISOString() };
    const { missing } = await this.#standing(header);
    if (header.closing?.because === 'cancelled') {
      // A check that was not made has found nothing.
      const out = run.trigger === 'verify' ? [] : missing;
      const skipped = (names: Opened) => linesOf(names, 'skipped', { reason: 'cancelled' });
      return this.#fold({ ...run, cancelled: true }, out, skipped);
    }
    const error = summarize(new HubferryError('ERR_LOST', 'Nobody has heard of the request for days'));
    return this.#fold(run, missing, (names) => linesOf(names, 'failed', { error }));
  }

  /** With the lines that are given for what is out, but for what it has done already. */
  async #fold(
    run: RunHeader,
    out: readonly Opened[] = [],
    linesFor: (names: Opened) => readonly Line[] = () => [],
  ): Promise<AnyReport> {
    const { parts, damaged } = await this.#parts.read(run.id);
    const done = new Set(parts.flatMap(({ id, lines }) => lines.map(({ target }) => `${id}\n${target}`)));
    const given = out.flatMap((names) =>
      linesFor(names).filter(({ target }) => !done.has(`${names.id}\n${target}`)),
    );
    const untold = parts
      .flatMap(({ opened }) => opened)
      .flatMap((names) => {
        const error = damaged.get(names.id);
        return error === undefined ? [] : linesOf(names, 'failed', { error });
      });
    const shown = run.cancelled && run.trigger === 'verify' ? parts.map(withoutUnchecked) : parts;
    const timed = await withTimes(run.id, shown, async (as) => this.#parked?.untilOf(as));
    const told = linesIn(timed, [...given, ...untold]).map((line) =>
      run.cancelled ? notDeferred(line) : line,
    );
    const report = buildReport(run, outcomesOf(run), told, transferOf(parts)) as AnyReport;
    const allowances = parts.flatMap(({ pullsLeft }) => pullsLeft ?? []);
    const longestBlobs = longestOf(parts.flatMap((part) => part.longestBlobs ?? []));
    return { ...report, ...(allowances.length > 0 && { pullsLeft: Math.min(...allowances) }), longestBlobs };
  }

  async #header(run: string): Promise<OpenHeader | undefined> {
    const document = await this.#runs.get(headerKey(run));
    if (document === undefined) return undefined;
    const header = parseStored(document.bytes, headerSchema) ?? headerFrom(run);
    if (header === undefined) throw new DamagedError(headerKey(run));
    return { header, etag: document.etag };
  }
}

/** Webhooks of one minute share a run: until the minute is over another one may come. */
function isShared({ trigger, startedAt, sharedUntil }: Header, now: number): boolean {
  if (sharedUntil !== undefined) return now < sharedUntil;
  return trigger === 'webhook' && Math.floor(now / minuteMs) <= Math.floor(Date.parse(startedAt) / minuteMs);
}

/** A check that was not made has found nothing: what waits names its time. */
function withoutUnchecked(part: Part): Part {
  if (part.parkedUntil === undefined) return part;
  return { ...part, lines: part.lines.filter(({ until }) => until === undefined) };
}

/** In a cancelled run nothing waits any more. */
function notDeferred(line: Line): Line {
  if (line.outcome !== 'deferred') return line;
  const { until: _until, error: _error, ...rest } = line;
  return { ...rest, outcome: 'skipped', reason: 'cancelled' };
}

function outcomesOf({ trigger }: RunHeader): readonly string[] {
  return trigger === 'verify' ? verifyFindings : syncOutcomes;
}

function runOf({ id, trigger, startedAt, dryRun, partial }: Header): RunHeader {
  return { id, trigger, startedAt, ...(dryRun && { dryRun }), ...(partial && { partial }) };
}

function headerKey(run: string): string {
  return `open/${run}.json`;
}

/** Of a run whose header was damaged: how far its end had come is found out again. */
function headerFrom(run: string): Header | undefined {
  return headerSchema.safeParse({ id: run, ...parseRunId(run) }).data;
}
