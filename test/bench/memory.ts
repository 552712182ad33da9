import type { Benchmark } from './benchmark.ts';
import { type CopyCosts, copyInTurns, GiB, MiB, peakOf } from './copying.ts';
import type { Figure } from './figure.ts';

const quarter = 256 * MiB;
const sizes = [64 * MiB, 256 * MiB, GiB, 4 * GiB];

export const memory: Benchmark = {
  name: 'memory',
  about: 'peak memory by number of blobs in flight, and by their size',
  async run(bench) {
    const figures: Figure[] = [];
    for (const blobs of [1, 4, 10]) {
      bench.say(`${blobs} of 256 MiB`);
      const costs = await copyInTurns(bench, Array(blobs).fill(quarter));
      const figure = peaks(`${blobs} of 256 MiB in flight`, costs);
      figures.push(blobs === 10 ? { ...figure, bar: { of: 'median', atMost: 256 } } : figure);
    }
    const bySize: Figure[] = [];
    for (const size of sizes) {
      bench.say(`one of ${size / MiB} MiB`);
      bySize.push(peaks(`one of ${size / MiB} MiB`, await copyInTurns(bench, [size])));
    }
    return [...figures, ...bySize, spreadOf(bySize)];
  },
};

function peaks(what: string, { hubferry, skopeo }: CopyCosts): Figure {
  return {
    what: `peak memory, ${what}`,
    unit: 'MiB',
    values: hubferry.map(peakOf),
    peer: { name: 'skopeo copy', values: skopeo.map(peakOf) },
  };
}

/** How much the size of a blob matters, round by round. */
function spreadOf(bySize: readonly Figure[]): Figure {
  const rounds = bySize[0]?.values.keys() ?? [];
  const values = [...rounds].map((round) => {
    const peaksOfRound = bySize.map((figure) => figure.values[round] ?? 0);
    return Math.max(...peaksOfRound) / Math.min(...peaksOfRound);
  });
  return {
    what: 'largest over smallest peak, 64 MiB to 4 GiB',
    unit: 'times',
    values,
    bar: { of: 'median', atMost: 1.1 },
  };
}
