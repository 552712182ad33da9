/** One blob of forty has changed, and nothing is remembered: what goes over the wire. */
import { buildManifest, type Content, put, randomBlob } from '../local/content.ts';
import type { Benchmark } from './benchmark.ts';
import type { Figure, Unit } from './figure.ts';
import { inFolder, skopeoCopy } from './programs.ts';
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

const blobs = 40;
const size = 100_000;
const [before, after] = ['as it was', 'changed'].map((last) => {
  const layers = Array.from({ length: blobs - 1 }, (_, index) => randomBlob(`layer ${index}`, size));
  return buildManifest({ seed: last, layers: [...layers, randomBlob(last, size)] });
}) as [Content, Content];

export const changedBlob: Benchmark = {
  name: 'changed-blob',
  about: 'requests and bytes where one blob of 40 has changed, Docker Hub to ACR',
  async run(bench) {
    const own = await measure((standIns, folder) => runRule(bench, standIns, ['sync'], folder));
    const others = await measure(({ hub, acr }, cwd) =>
      skopeoCopy(`${new URL(hub.url).host}/${repository}:1`, `${acr.host}/${mirror}:1`, { cwd }, admin),
    );
    const figure = (what: string, unit: Unit, atMost: number, read: (asked: Asked) => number): Figure => ({
      what,
      unit,
      values: [read(own)],
      peer: { name: 'skopeo copy', values: [read(others)] },
      bar: { of: 'median', atMost },
    });
    const least = size + (after.blobs[0]?.size ?? 0) + after.bytes.byteLength;
    return [
      figure('bytes sent: blob, config and manifest', 'bytes', least, (asked) =>
        writesOf(asked).reduce((sum, { received }) => sum + received, 0),
      ),
      figure('requests at the source', 'requests', 9, ({ source }) => source.length - listing(source)),
      figure('requests at the target', 'requests', 13, ({ target }) => target.length - listing(target)),
      figure('pulls', 'pulls', 1, ({ pulls }) => pulls),
    ];
  },
};

/** Pages of tags, of either side. */
function listing(requests: Asked['source']): number {
  return requests.filter(({ url }) => /\/tags(?:\/list)?(?:\?|$)|\/_tags/.test(url)).length;
}

function measure(copy: (standIns: StandIns, folder: string) => Promise<unknown>): Promise<Asked> {
  return withStandIns(async (standIns) => {
    const { hub, acr } = standIns;
    put(acr, mirror, '1', before);
    put(hub, repository, '1', after);
    const asked = await askedBy(standIns, () => inFolder((folder) => copy(standIns, folder)));
    if (acr.repository(mirror).digestOf('1') !== after.descriptor.digest)
      throw new Error('the tag has not moved');
    return asked;
  });
}
