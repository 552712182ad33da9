/**
 * What a run is made of: one part for each request, written by that request alone.
 *
 * A part's name tells whose it is and how it stands, so that a listing of names says what is still out. Whoever ends a
 * request again, after a crash or for a message that came twice, finds the name taken: the first end stands.
 */
import { createHash } from 'node:crypto';
import type { Queue, StoredName } from '../../storage/ports.ts';
import { nameOf } from '../select/names.ts';
import { type ParkedAs, parkedName } from './parked.ts';
import type { BlobTime, Line, TransferTotals } from './report.ts';
import { addTransfer, noTransfer, type Tally } from './tally.ts';

export interface Part {
  /** The request that it ends, or the opener that it is of. */
  readonly id: string;
  /** Requests that it opened: the run waits for each of them. */
  readonly opened: readonly Opened[];
  readonly lines: readonly Line[];
  readonly transfer: TransferTotals;
  /** What each delivery before the end has cost, by a name of its own: two at once both know of those before. */
  readonly deliveries?: Readonly<Record<string, TransferTotals>> | undefined;
  readonly pullsLeft?: number | undefined;
  readonly longestBlobs?: readonly BlobTime[] | undefined;
  /** Not an end: parked until then (milliseconds since the epoch). */
  readonly parkedUntil?: number | undefined;
  /** The name under which it is, where that is another one than its own in this run. */
  readonly parkedAs?: ParkedAs | undefined;
  /** It is parked for as long as people have paused everything. */
  readonly paused?: boolean | undefined;
  /** It is parked nowhere: it was sent again, not to come before then, and the run waits for it. */
  readonly sentAgain?: boolean | undefined;
  /** What it sends of what it opened, to be sent again where it could not. */
  readonly sends?: readonly Sent[] | undefined;
}

/** What a request has come to before it waits. */
export interface Found {
  readonly lines: readonly Line[];
  readonly opened?: readonly Opened[];
}

/** What a request is about, for its lines as long as it has none of its own. */
export interface Names extends Pick<Line, 'rule' | 'source' | 'target'> {
  /** Absent where it is about a rule as a whole. */
  readonly tags?: readonly { readonly source: string; readonly target: string }[] | undefined;
  readonly digest?: string | undefined;
}

/** A request that was opened. */
export interface Opened extends Names {
  readonly id: string;
}

/** What a request is entered as. */
export function openedBy({ id, rule, source, target, tags }: Opened): Opened {
  return { id, rule, source, target, tags };
}

export interface Sent {
  readonly queue: Queue;
  readonly message: { readonly id: string };
}

export interface PartName {
  readonly key: string;
  readonly id: string;
  /** Whether its text names requests that it opened. */
  readonly opens: boolean;
  /** Whether it has the messages of some of them. */
  readonly sends: boolean;
  /** Milliseconds since the epoch; absent where the request has ended. */
  readonly parkedUntil: number | undefined;
  /** The name under which the parking has it, if it does. */
  readonly parkedAs: string;
  readonly paused: boolean;
  readonly sentAgain: boolean;
  /** Milliseconds since the epoch. */
  readonly writtenAt: number;
}

/** Two ends of one request, by messages that came twice, may have opened different requests: both are kept. */
export function keyOfPart(run: string, part: Part): string {
  const { id, opened, sends = [], parkedUntil, parkedAs: as } = part;
  const ids = opened.map((one) => one.id).sort();
  const ended = ids.length === 0 ? 'ended' : `${sends.length > 0 ? 'sends' : 'opened'}-${hash(ids.join())}`;
  const elsewhere = as === undefined || (as.run === run && as.id === id) ? '' : `~${as.run}~${as.id}`;
  const parked = `${waitOf(part)}-${parkedUntil}${ids.length === 0 ? '' : '-opened'}${elsewhere}`;
  return `${prefixOf(run)}${id}~${parkedUntil === undefined ? ended : parked}`;
}

const waits = ['parked', 'paused', 'sent'] as const;

function waitOf({ paused, sentAgain }: Part): (typeof waits)[number] {
  if (sentAgain) return 'sent';
  return paused ? 'paused' : 'parked';
}

export function prefixOf(run: string): string {
  return `parts/${run}/`;
}

export function parseName({ key, modifiedAt }: StoredName): PartName {
  const [, run = '', name = ''] = key.split('/');
  const [id = '', state = '', ...as] = name.split('~');
  const [parkedRun = run, parkedId = id] = as;
  const [wait = '', until, opened] = state.split('-');
  return {
    key,
    id,
    opens: ['opened', 'sends'].includes(wait) || opened !== undefined,
    sends: state.startsWith('sends-'),
    parkedUntil: waits.some((one) => one === wait) ? Number(until) : undefined,
    parkedAs: parkedName({ run: parkedRun, id: parkedId }),
    paused: wait === 'paused',
    sentAgain: wait === 'sent',
    writtenAt: modifiedAt,
  };
}

/** One line for each tag of a request. */
export function linesOf<Outcome extends string>(
  { rule, source, target, tags, digest }: Names,
  outcome: Outcome,
  facts: Pick<Line, 'reason' | 'error' | 'until'>,
): Line<Outcome>[] {
  if (tags === undefined) return [{ rule, source, target, outcome, ...facts }];
  const named = (name: string, tag: string) => nameOf(name, tag === '' ? (digest ?? '') : tag);
  return tags.map((tag) => ({
    rule,
    source: named(source, tag.source),
    target: named(target, tag.target),
    ...(digest === undefined ? {} : { digest }),
    outcome,
    ...facts,
  }));
}

/** The last parking of each request, and every end: two ends of one request may have opened different ones. */
export function latest(names: readonly PartName[]): PartName[] {
  const ends = names.filter(({ parkedUntil }) => parkedUntil === undefined);
  const parked = new Map<string, PartName>();
  for (const name of names) {
    if (name.parkedUntil === undefined) continue;
    if (name.parkedUntil > (parked.get(name.id)?.parkedUntil ?? 0)) parked.set(name.id, name);
  }
  return [...ends, ...parked.values()];
}

/** What a part tells of the work that was done for it. */
export function costOf(tally: Tally): Pick<Part, 'transfer' | 'pullsLeft' | 'longestBlobs'> {
  const transfer = tally.totals();
  return { transfer, pullsLeft: tally.allowance?.remaining, longestBlobs: tally.blobs.longest };
}

/** What parts have cost together. */
export function transferOf(parts: readonly Part[]): TransferTotals {
  const deliveries = new Map<string, TransferTotals>();
  const transfer = noTransfer();
  for (const part of parts) {
    const before = Object.entries(part.deliveries ?? {});
    for (const [name, one] of before) deliveries.set(name, one);
    if (before.length === 0) addTransfer(transfer, part.transfer);
  }
  for (const one of deliveries.values()) addTransfer(transfer, one);
  return transfer;
}

/** Two deliveries at once both know of the lines of those before. */
export function once(lines: readonly Line[]): Line[] {
  return [...new Map(lines.map((line) => [JSON.stringify(line), line])).values()];
}

/** The lines that parts tell, with those that are given for requests without one. Their bytes add up to what was sent. */
export function linesIn(parts: readonly Part[], given: readonly Line[] = []): Line[] {
  const requests = [...Map.groupBy(parts, ({ id }) => id).values()];
  return distinct([...requests.flatMap(linesOfRequest), ...given]);
}

function linesOfRequest(parts: readonly Part[]): readonly Line[] {
  const ended = parts.filter(({ parkedUntil }) => parkedUntil === undefined);
  const parked = parts.filter(({ parkedUntil }) => parkedUntil !== undefined);
  const before = once(ended.length === 0 ? parked.flatMap(({ lines }) => lines) : parked.flatMap(doneBefore));
  return withUntold([...before, ...ended.flatMap(({ lines }) => lines)], parts);
}

/** Deliveries that were stopped or parked have sent bytes too, and no line of theirs is left. */
function withUntold(lines: readonly Line[], parts: readonly Part[]): readonly Line[] {
  const sent = transferOf(parts).bytesCopied;
  const told = lines.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
  const last = lines.findLastIndex(({ outcome }) => outcome === 'copied');
  const at = last < 0 ? lines.length - 1 : last;
  return sent <= told
    ? lines
    : lines.map((line, index) => (index === at ? { ...line, bytes: (line.bytes ?? 0) + sent - told } : line));
}

/** Parts of which those that wait tell their lines with the time of the parking: what it puts off is written down once. */
export async function withTimes(
  run: string,
  parts: readonly Part[],
  timeOf: TimeOf,
): Promise<readonly Part[]> {
  const ended = new Set(parts.filter(({ parkedUntil }) => parkedUntil === undefined).map(({ id }) => id));
  return Promise.all(
    parts.map(async (part) => {
      const { id, lines, parkedAs = { run, id } } = part;
      if (ended.has(id) || lines.every(({ until }) => until === undefined)) return part;
      const time = await timeOf(parkedAs);
      if (time === undefined) return part;
      const until = new Date(time).toISOString();
      return { ...part, lines: lines.map((line) => (line.until === undefined ? line : { ...line, until })) };
    }),
  );
}

/** Until when something is parked, in milliseconds since the epoch, if it is. */
type TimeOf = (as: ParkedAs) => Promise<number | undefined>;

/** What a request did before it was parked or sent again. */
export function doneBefore({ lines }: Part): Line[] {
  return lines.filter(({ outcome }) => done.has(outcome));
}

const done: ReadonlySet<string> = new Set(['copied', 'deleted']);
const idle: ReadonlySet<string> = new Set(['unchanged', 'skipped', 'deferred']);

/**
 * One line for each tag, target and digest, with what was sent for it. A message that came twice says `unchanged` of what
 * it copied itself.
 */
export function distinct(lines: readonly Line[]): Line[] {
  const kept = new Map<string, Line>();
  for (const line of lines) {
    const key = [line.rule, line.source, line.target, line.digest].join('\n');
    const other = kept.get(key);
    const stays = other === undefined || idle.has(other.outcome) ? line : other;
    const bytes = (line.bytes ?? 0) + (other?.bytes ?? 0);
    kept.set(key, bytes === (stays.bytes ?? 0) ? stays : { ...stays, bytes });
  }
  return [...kept.values()].sort((a, b) => (a.target < b.target ? -1 : a.target > b.target ? 1 : 0));
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
