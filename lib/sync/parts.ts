/**
 * What a run is made of: one part for each request, written by that request alone.
 *
 * A part's name tells whose it is and how it stands, so that a listing of names says what is still out. Whoever ends a
 * request again, after a crash or for a message that came twice, finds the name taken: the first end stands.
 */
import { createHash } from 'node:crypto';
import type { Queue, StoredName } from '../storage/ports.ts';
import type { Line, TransferTotals } from './report.ts';

export interface Part {
  /** The request that it ends, or the opener that it is of. */
  readonly id: string;
  /** Requests that it opened: the run waits for each of them. */
  readonly opened: readonly Opened[];
  readonly lines: readonly Line[];
  readonly transfer: TransferTotals;
  /** Not an end: parked until then (milliseconds since the epoch). */
  readonly parkedUntil?: number | undefined;
  /** An opener's: what it sends, to be sent again where it could not. */
  readonly sends?: readonly Sent[] | undefined;
}

/** A request that was opened, with the names that its line has as long as there is none. */
export interface Opened extends Pick<Line, 'rule' | 'source' | 'target'> {
  readonly id: string;
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
  /** Milliseconds since the epoch; absent where the request has ended. */
  readonly parkedUntil: number | undefined;
  /** Milliseconds since the epoch. */
  readonly writtenAt: number;
}

/** Two ends of one request, by messages that came twice, may have opened different requests: both are kept. */
export function keyOfPart(run: string, { id, opened, parkedUntil }: Part): string {
  const ids = opened.map((one) => one.id).sort();
  const ended = ids.length === 0 ? 'ended' : `opened-${hash(ids.join())}`;
  return `${prefixOf(run)}${id}~${parkedUntil === undefined ? ended : `parked-${parkedUntil}`}`;
}

export function prefixOf(run: string): string {
  return `parts/${run}/`;
}

export function parseName({ key, modifiedAt }: StoredName): PartName {
  const [id = '', state = ''] = key.slice(key.lastIndexOf('/') + 1).split('~');
  return {
    key,
    id,
    opens: state.startsWith('opened-'),
    parkedUntil: state.startsWith('parked-') ? Number(state.slice('parked-'.length)) : undefined,
    writtenAt: modifiedAt,
  };
}

/** One name for each request but those that opened differently: an end stands before any parking, the last parking before others. */
export function current(names: readonly PartName[]): PartName[] {
  const ended = names.filter((name) => name.parkedUntil === undefined);
  const over = new Set(ended.map(({ id }) => id));
  const parked = new Map<string, PartName>();
  for (const name of names) {
    if (over.has(name.id) || name.parkedUntil === undefined) continue;
    if (name.parkedUntil > (parked.get(name.id)?.parkedUntil ?? 0)) parked.set(name.id, name);
  }
  return [...ended, ...parked.values()];
}

/** One line for each tag, target and digest. A message that came twice says `unchanged` of what it copied itself. */
export function distinct(lines: readonly Line[]): Line[] {
  const kept = new Map<string, Line>();
  for (const line of lines) {
    const key = [line.rule, line.source, line.target, line.digest].join('\n');
    const other = kept.get(key);
    if (other === undefined || other.outcome === 'unchanged') kept.set(key, line);
  }
  return [...kept.values()].sort((a, b) => (a.target < b.target ? -1 : a.target > b.target ? 1 : 0));
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
