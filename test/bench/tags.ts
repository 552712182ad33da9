/** Many tags that share most of their blobs: a first run, and one in which nothing has changed. */
import { buildManifest, randomBlob } from '../local/content.ts';
import type { DockerRegistry } from '../local/docker-registry.ts';
import { type Benchmark, inTurns } from './benchmark.ts';
import { MiB, wallOf } from './copying.ts';
import type { Figure } from './figure.ts';
import type { Cost } from './process.ts';
import { hubferry, inFolder, skopeoSync } from './programs.ts';
import { push, tagsOf, withRegistry } from './registries.ts';

const count = 200;
const shared = 10;
const repository = 'bench/tags';
const mirror = 'mirror/tags';

interface TwoRuns {
  readonly first: Cost;
  readonly idle: Cost;
}

export const tags: Benchmark = {
  name: 'tags',
  about: '200 tags of ten shared blobs and one of their own, and the same idle, against skopeo sync',
  run: (bench) =>
    withRegistry(async (source) => {
      bench.say('filling the source');
      await fill(source);
      const from = `${source.host}/${repository}`;
      const runs = await inTurns(bench, {
        hubferry: () =>
          runTwice((to, cwd) => hubferry(bench.hubferry, ['sync', from, `${to.host}/${mirror}`], { cwd })),
        skopeo: () => runTwice((to, cwd) => skopeoSync(from, `${to.host}/mirror`, { cwd })),
      });
      const figure = (what: string, unit: 's', read: (runs: TwoRuns) => number) => ({
        what,
        unit,
        values: runs.hubferry.map(read),
        peer: { name: 'skopeo sync', values: runs.skopeo.map(read) },
      });
      const figures: Figure[] = [
        {
          ...figure('wall time, 200 tags', 's', ({ first }) => wallOf(first)),
          bar: { of: 'ratio', atMost: 0.33 },
        },
        {
          ...figure('wall time, 200 tags, idle', 's', ({ idle }) => wallOf(idle)),
          bar: { of: 'ratio', atMost: 0.5 },
        },
        figure('CPU, 200 tags', 's', ({ first }) => first.cpuSeconds),
        figure('CPU, 200 tags, idle', 's', ({ idle }) => idle.cpuSeconds),
      ];
      return figures;
    }),
};

async function fill(source: DockerRegistry): Promise<void> {
  const layers = Array.from({ length: shared }, (_, index) => randomBlob(`shared ${index}`, MiB));
  for (let tag = 1; tag <= count; tag++) {
    await push(
      source,
      repository,
      `1.${tag}`,
      buildManifest({ seed: `tag ${tag}`, layers: [...layers, 65_536] }),
    );
  }
}

/** Into an empty registry, and once more. */
function runTwice(sync: (target: DockerRegistry, folder: string) => Promise<Cost>): Promise<TwoRuns> {
  return withRegistry((target) =>
    inFolder(async (folder) => {
      const first = await sync(target, folder);
      const idle = await sync(target, folder);
      const { length } = await tagsOf(target, mirror);
      if (length !== count) throw new Error(`there are ${length} tags instead of ${count}`);
      return { first, idle };
    }),
  );
}
