/** What a benchmark says: measured values beside those of a peer, and the bar that they have to keep. */

export type Unit = 's' | 'ms' | 'MiB' | 'MB' | 'bytes' | 'chunks' | 'requests' | 'pulls' | 'writes' | 'times';

/** Counts of what does not depend on time: another round gives the same. */
const counted: ReadonlySet<Unit> = new Set(['MB', 'bytes', 'requests', 'pulls', 'writes']);
/** With fewer, chance decides. */
export const leastRounds = 7;

export interface Bar {
  /** The ratio of the medians, to the peer's, or the median itself. */
  readonly of: 'ratio' | 'median';
  readonly atMost: number;
  /** What would be better still. */
  readonly aim?: number;
}

export interface Figure {
  readonly what: string;
  readonly unit: Unit;
  /** One for each round. */
  readonly values: readonly number[];
  /** From the same rounds, in turns with the values. */
  readonly peer?: { readonly name: string; readonly values: readonly number[] };
  readonly bar?: Bar;
}

export interface Summary {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export interface Judged extends Figure {
  readonly benchmark: string;
  readonly own: Summary;
  readonly others?: Summary;
  /** Median over median, where the peer's is not 0. */
  readonly ratio?: number;
  /** Undefined where there is no bar, or too little to hold against it. */
  readonly met?: boolean;
}

/** Median, and the spread from the lowest to the highest. */
export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.ceil(sorted.length / 2) - 1];
  const [low, high] = [sorted[0], sorted.at(-1)];
  if (upper === undefined || lower === undefined || low === undefined || high === undefined) {
    throw new Error('nothing was measured');
  }
  return { median: (lower + upper) / 2, low, high };
}

export function judge(benchmark: string, figure: Figure): Judged {
  const own = summarize(figure.values);
  const { peer, bar } = figure;
  const others = peer && summarize(peer.values);
  const ratio = others && others.median > 0 ? own.median / others.median : undefined;
  return {
    ...figure,
    benchmark,
    own,
    ...(others && { others }),
    ...(ratio !== undefined && { ratio }),
    ...(bar && isEnough(figure) && { met: barred(bar, own, ratio) <= bar.atMost }),
  };
}

function isEnough(figure: Figure): boolean {
  return isCounted(figure) || figure.values.length >= leastRounds;
}

export function isCounted({ unit }: Figure): boolean {
  return counted.has(unit);
}

/** What a bar is held against. */
export function barred(bar: Bar, own: Summary, ratio: number | undefined): number {
  return bar.of === 'ratio' ? (ratio ?? Number.NaN) : own.median;
}
