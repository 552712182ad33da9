/** Chance that can be replayed: the same seed gives the same numbers. */

export interface Random {
  /** A number from 0 up to, not including, 1. */
  next(): number;
  /** A whole number from `low` up to, not including, `high`. */
  between(low: number, high: number): number;
  /** One of these. */
  pick<T>(choices: readonly T[]): T;
}

/** Mulberry32: a 32-bit state is plenty for tests. A seed may be any text, so that each subject can have its own. */
export function seeded(seed: number | string): Random {
  let state = fnv1a(String(seed));
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const between = (low: number, high: number) => low + Math.floor(next() * (high - low));
  return {
    next,
    between,
    pick: <T>(choices: readonly T[]) => {
      if (choices.length === 0) throw new Error('nothing to pick from');
      return choices[between(0, choices.length)] as T;
    },
  };
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash;
}
