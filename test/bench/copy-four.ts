import type { Benchmark } from './benchmark.ts';
import { againstSkopeo, copyBesideLimits, GiB } from './copying.ts';

export const copyFour: Benchmark = {
  name: 'copy-four',
  about: '1 GiB in four blobs, against skopeo copy',
  run: async (bench) =>
    againstSkopeo('1 GiB in four blobs', 1, await copyBesideLimits(bench, Array(4).fill(GiB / 4))),
};
