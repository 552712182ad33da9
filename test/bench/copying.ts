/** One tag from one real registry to another, empty one: hubferry, skopeo and the floor in turns. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { buildManifest, type Content } from '../local/content.ts';
import type { DockerRegistry } from '../local/docker-registry.ts';
import { type Bench, inTurns } from './benchmark.ts';
import type { Figure } from './figure.ts';
import type { Cost } from './process.ts';
import { type BlobFile, floor, hubferry, inFolder, skopeoCopy, uploads } from './programs.ts';
import { digestOfTag, push, withRegistry } from './registries.ts';

export const MiB = 1 << 20;
export const GiB = 1 << 30;

const repository = 'bench/source';
const mirror = 'bench/mirror';

export interface CopyCosts {
  readonly hubferry: readonly Cost[];
  readonly skopeo: readonly Cost[];
}

/** Copies blobs of these sizes, made one manifest, in turns. */
export function copyInTurns(bench: Bench, sizes: readonly number[]): Promise<CopyCosts> {
  return withContent(sizes, (source, content) => inTurns(bench, copies(bench, source, content)));
}

export interface LimitedCopyCosts extends CopyCosts {
  /** The target alone. */
  readonly uploads: readonly Cost[];
  /** Of one blob. */
  readonly floor: readonly Cost[];
}

/** The same, beside what limits it: the target alone, and for one blob what other tools take at least. */
export function copyBesideLimits(bench: Bench, sizes: readonly number[]): Promise<LimitedCopyCosts> {
  return withContent(sizes, (source, content) =>
    inFolder(async (folder) => {
      const files = await filesOf(content, folder);
      const contestants = {
        ...copies(bench, source, content),
        uploads: () => uploadsOnce(files),
      };
      if (sizes.length > 1) return { ...(await inTurns(bench, contestants)), floor: [] };
      return inTurns(bench, { ...contestants, floor: () => floorOnce(source, content) });
    }),
  );
}

function withContent<T>(
  sizes: readonly number[],
  work: (source: DockerRegistry, content: Content) => Promise<T>,
): Promise<T> {
  const content = buildManifest({ seed: `bench ${sizes}`, layers: sizes });
  return withRegistry(async (source) => {
    await push(source, repository, '1', content);
    return work(source, content);
  });
}

function copies(bench: Bench, source: DockerRegistry, content: Content) {
  return {
    hubferry: () => copyOnce(source, content, (...names) => hubferryCopy(bench, ...names)),
    skopeo: () => copyOnce(source, content, (from, to, cwd) => skopeoCopy(from, to, { cwd })),
  };
}

/** The layers as files: read a moment ago, they lie in memory. */
function filesOf({ blobs }: Content, folder: string): Promise<BlobFile[]> {
  const layers = blobs.slice(1);
  return Promise.all(
    layers.map(async ({ descriptor: { digest }, size, open }) => {
      const file = path.join(folder, digest.replace(':', '-'));
      await writeFile(file, open(0, size));
      return { file, digest };
    }),
  );
}

function uploadsOnce(files: readonly BlobFile[]): Promise<Cost> {
  return withRegistry((target) =>
    inFolder((cwd) => uploads({ ...target, repository: mirror }, files, { cwd })),
  );
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
  { hubferry: own, skopeo, uploads: alone }: LimitedCopyCosts,
): Figure[] {
  const figure = (name: string, read: (cost: Cost) => number, peer = 'skopeo copy', costs = skopeo) => ({
    what: `${name}, ${what}`,
    values: own.map(read),
    peer: { name: peer, values: costs.map(read) },
  });
  return [
    { ...figure('wall time', wallOf), unit: 's', bar: { of: 'ratio', atMost: 0.9, aim: 0.8 } },
    {
      ...figure('CPU per GiB', (cost) => cost.cpuSeconds / gibibytes),
      unit: 's',
      bar: { of: 'ratio', atMost: 0.65, aim: 0.55 },
    },
    { ...figure('peak memory', peakOf), unit: 'MiB' },
    { ...figure('wall time', wallOf, 'target alone', alone), unit: 's' },
  ];
}

export function wallOf(cost: Cost): number {
  return cost.wallSeconds;
}

export function peakOf(cost: Cost): number {
  return cost.peakBytes / MiB;
}
