/** `kill -9` at random moments of a large upload, and what the next run sends again. */
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { buildManifest, put, randomBlob } from '../local/content.ts';
import type { DockerRegistry } from '../local/docker-registry.ts';
import { seeded } from '../local/random.ts';
import { startRegistry } from '../local/registry.ts';
import type { Bench, Benchmark } from './benchmark.ts';
import { MiB } from './copying.ts';
import type { Ended, ProgramOptions } from './process.ts';
import { hubferry, inFolder, skopeoCopy } from './programs.ts';
import { digestOfBlob, digestOfTag, withRegistry } from './registries.ts';

const points = 20;
/** What is taken for ACR. */
const chunk = 8 * MiB;
const size = 96 * MiB;
/** A line of 134 Mbit/s, far slower than the target. */
const bytesPerSecond = 16 * MiB;
const names = { source: 'bench/source', target: 'bench/mirror' };

const blob = randomBlob('killed', size);
const content = buildManifest({ seed: 'killed', layers: [blob] });

type Copy = (source: string, target: string, options: ProgramOptions) => Promise<Ended>;

export const kill: Benchmark = {
  name: 'kill',
  about: `kill -9 at ${points} random moments of one blob of ${size / MiB} MiB, and what is sent again`,
  async run(bench) {
    const source = await startRegistry({ bytesPerSecond });
    try {
      put(source, names.source, '1', content);
      const { own, others } = await sentAgain(bench, source.host);
      return [
        {
          what: `sent again after kill -9, in chunks of ${chunk / MiB} MiB`,
          unit: 'chunks',
          values: own,
          peer: { name: 'skopeo copy', values: others },
          bar: { of: 'median', atMost: 1 },
        },
      ];
    } finally {
      await source.close();
    }
  },
};

function copyWith({ hubferry: program }: Bench): Copy {
  return async (source, target, options) => {
    const [registry = ''] = target.split('/');
    const registries = { [registry]: { chunkSize: chunk } };
    const tag = { source: source.replace(/:1$/, ''), target: target.replace(/:1$/, '') };
    // JSON is YAML.
    const rules = JSON.stringify({ version: 1, registries, rules: [tag] });
    await writeFile(path.join(options.cwd, 'sync.yaml'), rules);
    return hubferry(program, ['sync'], options);
  };
}

/** Chunks that each sent to the target more than once, for each moment, in turns. */
async function sentAgain(bench: Bench, source: string): Promise<{ own: number[]; others: number[] }> {
  const ownAgain = await contestant(source, copyWith(bench));
  const othersAgain = await contestant(source, skopeoCopy);
  const random = seeded('kill');
  const own: number[] = [];
  const others: number[] = [];
  for (let point = 1; point <= points; point++) {
    const at = random.next();
    own.push(await ownAgain(at));
    others.push(await othersAgain(at));
    const [again, theirs] = [own, others].map((values) => values.at(-1)?.toFixed(2));
    bench.say(`${point} of ${points}: killed at ${at.toFixed(2)}, ${again} chunks again; skopeo ${theirs}`);
  }
  return { own, others };
}

/** Measures what is sent again after a kill at a share of the time that an undisturbed copy takes. */
async function contestant(source: string, copy: Copy): Promise<(share: number) => Promise<number>> {
  const undisturbed = await copyKilled(source, copy, undefined);
  return async (share) => {
    const { sent } = await copyKilled(source, copy, share * undisturbed.seconds);
    return Math.max(0, sent - undisturbed.sent) / chunk;
  };
}

/** Kills the first run at that second, lets a second one end it, and proves that the result is the source's. */
function copyKilled(
  source: string,
  copy: Copy,
  second: number | undefined,
): Promise<{ sent: number; seconds: number }> {
  return withRegistry((target) =>
    withMeter(target, (meter) =>
      inFolder(async (cwd) => {
        const pair = [`${source}/${names.source}:1`, `${meter.host}/${names.target}:1`] as const;
        let seconds = 0;
        if (second === undefined) seconds = (await copy(...pair, { cwd })).wallSeconds;
        else {
          await killedAfter(second, (kill) => copy(...pair, { cwd, kill }));
          await copy(...pair, { cwd });
        }
        await proveSame(target);
        return { sent: meter.sent(), seconds };
      }),
    ),
  );
}

async function killedAfter(seconds: number, start: (kill: AbortSignal) => Promise<unknown>): Promise<void> {
  const kill = new AbortController();
  const ended = start(kill.signal);
  await Promise.race([delay(seconds * 1000), ended]);
  kill.abort();
  await ended;
}

async function proveSame(target: DockerRegistry): Promise<void> {
  const tag = await digestOfTag(target, names.target, '1');
  const bytes = await digestOfBlob(target, names.target, blob.descriptor.digest);
  if (tag !== content.descriptor.digest || bytes !== blob.descriptor.digest) {
    throw new Error('what came out is not what went in');
  }
}

interface Meter {
  readonly host: string;
  /** Bytes that clients have sent, with the heads of their requests. */
  readonly sent: () => number;
}

/** Stands in front of a registry and counts what it is sent, also of requests that were broken off. */
async function withMeter<T>(registry: DockerRegistry, work: (meter: Meter) => Promise<T>): Promise<T> {
  let sent = 0;
  const [host, port] = registry.host.split(':');
  const server = createServer((client) => {
    const upstream = connect(Number(port), host);
    client.on('data', (bytes) => {
      sent += bytes.length;
    });
    client.pipe(upstream).pipe(client);
    client.on('error', () => upstream.destroy());
    upstream.on('error', () => client.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    return await work({ host: `127.0.0.1:${(server.address() as AddressInfo).port}`, sent: () => sent });
  } finally {
    server.close();
  }
}
