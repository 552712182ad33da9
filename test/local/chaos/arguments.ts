/** The command line of `npm run chaos`. */
import { parseArgs } from 'node:util';

export const usage = `Usage: npm run chaos -- [options]

  --seed N      what happens, and when: one number gives the same pushes and faults (default: any)
  --minutes M   how long faults go on (default: 2)
  --log FILE    where the log of the instances goes
  --help        this text`;

export interface Arguments {
  readonly seed: number;
  readonly stormMs: number;
  readonly log: string | undefined;
}

/** What is asked for; `undefined` for `--help`. @throws Error whose message is for people */
export function readArguments(args: readonly string[]): Arguments | undefined {
  const { values } = parse(args);
  if (values.help) return undefined;
  const seed = Number(values.seed);
  const minutes = Number(values.minutes);
  if (!/^\d+$/.test(values.seed)) throw new Error('--seed takes a whole number.');
  if (!(minutes > 0)) throw new Error('--minutes takes a number above 0.');
  return { seed, stormMs: minutes * 60_000, log: values.log };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        seed: { type: 'string', default: String(Date.now() % 1_000_000) },
        minutes: { type: 'string', default: '2' },
        log: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    // The sentences after the first are about parsing.
    throw new Error(`${String(error instanceof Error ? error.message : error).replace(/\.\s.*$/s, '')}.`);
  }
}
