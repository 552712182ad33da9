/** One tag from one real registry to another, empty one: hubferry, skopeo and the floor in turns. */
import { buildManifest, type Content } from '../local/content.ts';
import type { DockerRegistry } from '../local/docker-registry.ts';
import { type Bench, inTurns } from './benchmark.ts';
import type { Figure } from './figure.ts';
import type { Cost } from './process.ts';
import { floor, hubferry, inFolder, skopeoCopy } from './programs.ts';
import { digestOfTag, push, withRegistry } from './registries.ts';

export const MiB = 1 << 20;
export const GiB = 1 << 30;

const repository = 'bench/source';
const mirror = 'bench/mirror';

export interface CopyCosts {
  readonly hubferry: readonly Cost[];
  readonly skopeo: readonly Cost[];
  /** Only where it is one blob. */
  readonly floor: readonly Cost[];
}

/** Copies blobs of these sizes, made one manifest, in turns. */
export async function copyInTurns(
  bench: Bench,
  sizes: readonly number[],
  withFloor = false,
): Promise<CopyCosts> {
  const content = buildManifest({ seed: `bench ${sizes}`, layers: sizes });
  return withRegistry(async (source) => {
    await push(source, repository, '1', content);
    const contestants = {
      hubferry: () => copyOnce(source, content, (...names) => hubferryCopy(bench, ...names)),
      skopeo: () => copyOnce(source, content, (from, to, cwd) => skopeoCopy(from, to, { cwd })),
    };
    if (!withFloor) return { ...(await inTurns(bench, contestants)), floor: [] };
    return inTurns(bench, { ...contestants, floor: () => floorOnce(source, content) });
  });
}

function hubferryCopy(bench: Bench, from: string, to: string, cwd: string): Promise<Cost> {
  return hubferry(bench.hubferry, ['sync', from, to], { cwd });
}

type Copy = (from: string, to: string, folder: string) => Promise<Cost>;

/** To an empty registry, with nothing remembered, and with proof that the tag is there. */
function copyOnce(source: DockerRegistry, content: Content, copy: Copy): Promise<Cost> {
  return withRegistry((target) =>
    inFolder(async (folder) => {
      const cost = await copy(`${source.host}/${repository}:1`, `${target.host}/${mirror}:1`, folder);
      const digest = await digestOfTag(target, mirror, '1');
      if (digest !== content.descriptor.digest) throw new Error(`the tag names ${digest}`);
      return cost;
    }),
  );
}

function floorOnce(source: DockerRegistry, content: Content): Promise<Cost> {
  const blob = content.blobs.at(-1);
  if (blob === undefined) throw new Error('there is no blob to copy');
  return withRegistry((target) =>
    inFolder((cwd) =>
      floor({ ...source, repository }, { ...target, repository: mirror }, blob.descriptor.digest, { cwd }),
    ),
  );
}

/** The figures that have a bar against `skopeo copy`, for `gibibytes` in all. */
export function againstSkopeo(
  what: string,
  gibibytes: number,
  { hubferry: own, skopeo }: CopyCosts,
): Figure[] {
  const figure = (name: string, read: (cost: Cost) => number) => ({
    what: `${name}, ${what}`,
    values: own.map(read),
    peer: { name: 'skopeo copy', values: skopeo.map(read) },
  });
  return [
    { ...figure('wall time', wallOf), unit: 's', bar: { of: 'ratio', atMost: 0.9, aim: 0.8 } },
    {
      ...figure('CPU per GiB', (cost) => cost.cpuSeconds / gibibytes),
      unit: 's',
      bar: { of: 'ratio', atMost: 0.65, aim: 0.55 },
    },
    { ...figure('peak memory', peakOf), unit: 'MiB' },
  ];
}

export function wallOf(cost: Cost): number {
  return cost.wallSeconds;
}

export function peakOf(cost: Cost): number {
  return cost.peakBytes / MiB;
}
