/** A run in which nothing has changed, as it is counted by those who are asked. */
import { buildBlob, buildManifest, put } from '../local/content.ts';
import type { ReportDocument } from '../local/program.ts';
import type { Bench, Benchmark } from './benchmark.ts';
import type { Figure, Unit } from './figure.ts';
import { inFolder, skopeoSync } from './programs.ts';
import {
  type Asked,
  admin,
  askedBy,
  mirror,
  repository,
  runRule,
  type StandIns,
  withStandIns,
  writesOf,
} from './stand-ins.ts';

export const idle: Benchmark = {
  name: 'idle',
  about: 'requests, pulls, writes and bytes of an idle run, Docker Hub to ACR',
  async run(bench) {
    const figures: Figure[] = [];
    for (const tags of [100, 1000]) figures.push(...(await measure(bench, tags)));
    return figures;
  },
};

function measure(bench: Bench, tags: number): Promise<Figure[]> {
  return withStandIns(async (standIns) => {
    fill(standIns, tags);
    bench.say(`${tags} tags`);
    const own = await askedBy(standIns, () =>
      inFolder((folder) => syncUnchanged(bench, standIns, tags, folder)),
    );
    const others = await askedBy(standIns, () => inFolder((cwd) => skopeo(standIns, cwd)));
    const count = (unit: Unit, read: (asked: Asked) => number): Figure => ({
      what: `${unit}, ${tags} tags`,
      unit,
      values: [read(own)],
      peer: { name: 'skopeo sync', values: [read(others)] },
    });
    const figure = (unit: Unit, atMost: number, read: (asked: Asked) => number): Figure => ({
      ...count(unit, read),
      bar: { of: 'median', atMost },
    });
    return [
      figure(
        'requests',
        2 * Math.ceil(tags / 100) + 6,
        ({ source, target }) => source.length + target.length,
      ),
      figure('pulls', 0, ({ pulls }) => pulls),
      figure('writes', 0, (asked) => writesOf(asked).length),
      count('bytes', ({ source, target }) =>
        [...source, ...target].reduce((sum, one) => sum + one.sent + one.received, 0),
      ),
    ];
  });
}

function fill({ hub, acr }: StandIns, tags: number): void {
  const layer = buildBlob(Buffer.from('shared by all'));
  for (let tag = 1; tag <= tags; tag++) {
    const content = buildManifest({ seed: `tag ${tag}`, layers: [layer] });
    put(hub, repository, `1.${tag}`, content);
    put(acr, mirror, `1.${tag}`, content);
  }
}

async function syncUnchanged(bench: Bench, standIns: StandIns, tags: number, folder: string): Promise<void> {
  const { stdout } = await runRule(bench, standIns, ['sync', '--json'], folder);
  const { totals } = JSON.parse(stdout) as ReportDocument;
  if (totals.unchanged !== tags) throw new Error(`${totals.unchanged} of ${tags} are unchanged`);
}

function skopeo({ hub, acr }: StandIns, cwd: string): Promise<unknown> {
  const source = `${new URL(hub.url).host}/${repository}`;
  return skopeoSync(source, `${acr.host}/mirror`, { cwd }, admin);
}
