/** What every benchmark has in common. */
import type { Figure } from './figure.ts';
import type { Hubferry } from './programs.ts';

export interface Bench {
  /** How often everything is measured. */
  readonly rounds: number;
  /** The command line, built. */
  readonly hubferry: Hubferry;
  /** The folder of the function app, as it is published. */
  readonly app: string;
  /** Tells what is being done. */
  readonly say: (text: string) => void;
}

export interface Benchmark {
  readonly name: string;
  /** In a few words, for `--help` and the terminal. */
  readonly about: string;
  run(bench: Bench): Promise<readonly Figure[]>;
}

/**
 * Lets each do its work once a round, one after the other and another one first each time: whatever else the machine
 * does meets all alike. A first round, in which files and caches get warm, does not count.
 */
export async function inTurns<Name extends string, T>(
  { rounds, say }: Bench,
  contestants: Readonly<Record<Name, () => Promise<T>>>,
): Promise<Record<Name, T[]>> {
  const names = Object.keys(contestants) as Name[];
  const results = Object.fromEntries(names.map((name) => [name, [] as T[]])) as Record<Name, T[]>;
  for (let round = 0; round <= rounds; round++) {
    say(round === 0 ? 'warming up' : `round ${round} of ${rounds}`);
    for (const turn of names.keys()) {
      const name = names[(turn + round) % names.length] as Name;
      const result = await contestants[name]();
      if (round > 0) results[name].push(result);
    }
  }
  return results;
}
