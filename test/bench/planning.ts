/** What it takes to find out that nothing is to be done, for few tags and for very many. */
import { createHash } from 'node:crypto';
import type { Digest } from '../../lib/oci/descriptor.ts';
import { type Bench, type Benchmark, inTurns } from './benchmark.ts';
import { peakOf, wallOf } from './copying.ts';
import type { Figure } from './figure.ts';
import type { Cost } from './process.ts';
import { inFolder } from './programs.ts';
import { mirror, repository, runRule, type StandIns, withStandIns } from './stand-ins.ts';

const [few, some, many] = [1_000, 10_000, 100_000];
const sizes = [100, few, some, many];

interface Costs {
  readonly tags: number;
  readonly text: readonly Cost[];
  /** With a line for each tag in the document. */
  readonly json: readonly Cost[];
}

export const planning: Benchmark = {
  name: 'planning',
  about: 'time and memory of a plan for 100 to 100,000 tags, Docker Hub and ACR',
  async run(bench) {
    const all: Costs[] = [];
    for (const tags of sizes) all.push(await measure(bench, tags));
    return [...all.flatMap(figuresOf), growthOf(all)];
  },
};

function measure(bench: Bench, tags: number): Promise<Costs> {
  return withStandIns(async (standIns) => {
    bench.say(`${tags} tags`);
    fill(standIns, tags);
    const plan = (...args: string[]) =>
      inFolder((folder) => runRule(bench, standIns, ['plan', '--exit-code', ...args], folder));
    return { tags, ...(await inTurns(bench, { text: () => plan(), json: () => plan('--json') })) };
  });
}

/** Neither listing looks at manifests, so none is there. */
function fill({ hub, acr }: StandIns, tags: number): void {
  for (let tag = 1; tag <= tags; tag++) {
    const digest: Digest = `sha256:${createHash('sha256').update(`${tag}`).digest('hex')}`;
    hub.repository(repository).setTag(`1.${tag}`, digest);
    acr.repository(mirror).setTag(`1.${tag}`, digest);
  }
}

function figuresOf({ tags, text, json }: Costs): Figure[] {
  const memory: Figure = { what: `peak memory, plan of ${tags} tags`, unit: 'MiB', values: text.map(peakOf) };
  return [
    { what: `wall time, plan of ${tags} tags`, unit: 's', values: text.map(wallOf) },
    { what: `CPU, plan of ${tags} tags`, unit: 's', values: text.map(({ cpuSeconds }) => cpuSeconds) },
    tags === many ? { ...memory, bar: { of: 'median', atMost: 200 } } : memory,
    { what: `peak memory, plan --json of ${tags} tags`, unit: 'MiB', values: json.map(peakOf) },
  ];
}

/**
 * How much more a tag costs among 100,000 than among 10,000; what a start takes is left out. It is counted in CPU seconds,
 * since in the time of a run there is also the stand-ins' own work.
 */
function growthOf(all: readonly Costs[]): Figure {
  const seconds = (tags: number) =>
    all.find((costs) => costs.tags === tags)?.text.map(({ cpuSeconds }) => cpuSeconds) ?? [];
  const perTag = (tags: number) =>
    seconds(tags).map((total, round) => (total - (seconds(few)[round] ?? 0)) / (tags - few));
  return {
    what: 'CPU for each tag, of 100,000 over of 10,000',
    unit: 'times',
    values: perTag(many).map((cost, round) => cost / (perTag(some)[round] ?? 0)),
    bar: { of: 'median', atMost: 1.2 },
  };
}
