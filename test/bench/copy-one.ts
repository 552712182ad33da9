import type { Benchmark } from './benchmark.ts';
import { againstSkopeo, copyBesideLimits, GiB, wallOf } from './copying.ts';

export const copyOne: Benchmark = {
  name: 'copy-one',
  about: '1 GiB in one blob, against skopeo copy and the floor',
  async run(bench) {
    const costs = await copyBesideLimits(bench, [GiB]);
    return [
      ...againstSkopeo('1 GiB in one blob', 1, costs),
      {
        what: 'wall time, 1 GiB in one blob',
        unit: 's',
        values: costs.hubferry.map(wallOf),
        peer: { name: 'curl | tee | curl', values: costs.floor.map(wallOf) },
        bar: { of: 'ratio', atMost: 1.1 },
      },
    ];
  },
};
