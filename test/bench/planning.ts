/** What it takes to find out that nothing is to be done, for few tags and for very many. */
import { createHash } from 'node:crypto';
import type { Digest } from '../../lib/oci/descriptor.ts';
import type { Benchmark } from './benchmark.ts';
import { peakOf, wallOf } from './copying.ts';
import type { Figure } from './figure.ts';
import type { Cost } from './process.ts';
import { inFolder } from './programs.ts';
import { mirror, repository, runRule, type StandIns, withStandIns } from './stand-ins.ts';

const sizes = [100, 1_000, 10_000, 100_000];

export const planning: Benchmark = {
  name: 'planning',
  about: 'time and memory of a plan for 100 to 100,000 tags, Docker Hub and ACR',
  async run(bench) {
    const costs: Cost[][] = [];
    for (const tags of sizes) {
      costs.push(
        await withStandIns(async (standIns) => {
          fill(standIns, tags);
          const rounds: Cost[] = [];
          for (let round = 1; round <= bench.rounds; round++) {
            bench.say(`${tags} tags, round ${round} of ${bench.rounds}`);
            const { ended, report } = await inFolder((folder) => runRule(bench, standIns, 'plan', folder));
            if (report.totals.unchanged !== tags) throw new Error('something is to be done');
            rounds.push(ended);
          }
          return rounds;
        }),
      );
    }
    const figures: Figure[] = sizes.flatMap((tags, index) => [
      { what: `wall time, plan of ${tags} tags`, unit: 's', values: (costs[index] ?? []).map(wallOf) },
      {
        what: `peak memory, plan of ${tags} tags`,
        unit: 'MiB',
        values: (costs[index] ?? []).map(peakOf),
        ...(tags === sizes.at(-1) && { bar: { of: 'median', atMost: 200 } as const }),
      },
    ]);
    return [...figures, growthOf(costs)];
  },
};

/** Neither listing looks at manifests, so none is there. */
function fill({ hub, acr }: StandIns, tags: number): void {
  for (let tag = 1; tag <= tags; tag++) {
    const digest: Digest = `sha256:${createHash('sha256').update(`${tag}`).digest('hex')}`;
    hub.repository(repository).setTag(`1.${tag}`, digest);
    acr.repository(mirror).setTag(`1.${tag}`, digest);
  }
}

/** How much more a tag costs among 100,000 than among 10,000; what a start takes is left out. */
function growthOf(costs: readonly (readonly Cost[])[]): Figure {
  const [start = [], , some = [], many = []] = costs.map((rounds) => rounds.map(wallOf));
  const values = many.map((seconds, round) => {
    const base = start[round] ?? 0;
    return (seconds - base) / (sizes[3] ?? 1) / (((some[round] ?? 0) - base) / (sizes[2] ?? 1));
  });
  return {
    what: 'time for each tag, of 100,000 over of 10,000',
    unit: 'times',
    values,
    bar: { of: 'median', atMost: 1.2 },
  };
}
