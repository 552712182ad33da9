/** The owner at Docker Hub: pushes, moves and deletes tags, signs some, and has webhooks sent. What was pushed when is the measure of the mirror. */
import { deriveIndex } from '../../../lib/oci/derive.ts';
import type { Digest } from '../../../lib/oci/descriptor.ts';
import { parsePlatformPattern } from '../../../lib/oci/platform.ts';
import { buildManifest, buildMultiPlatform, type Content, cosignSignature, cosignTag } from '../content.ts';
import { webhookBody } from '../dockerhub.ts';
import type { Random } from '../random.ts';
import type { Scene } from './scene.ts';

/** What is mirrored to where. */
export interface Mirror {
  readonly source: string;
  readonly targets: readonly string[];
  readonly prune: boolean;
  /** One platform of several is kept: the digest is that of a derived index. */
  readonly narrow: boolean;
}

export const mirrors: readonly Mirror[] = [
  { source: 'acme/app', targets: ['mirror/app'], prune: true, narrow: false },
  { source: 'acme/web', targets: ['mirror/web', 'copy/web'], prune: false, narrow: false },
  { source: 'acme/multi', targets: ['mirror/multi'], prune: false, narrow: true },
];

const keptPlatform = 'linux/amd64';

/** The rules for all this. */
export function rulesOf(registries: string, acr: string): string {
  const rules = mirrors.map(({ source, targets, prune, narrow }) => {
    const to = targets.map((target) => `${acr}/${target}`).join(', ');
    const more = narrow ? `, platforms: [${keptPlatform}]` : '';
    return `  - { name: ${source.split('/')[1]}, source: docker.io/${source}, target: [${to}], prune: ${prune}${more} }`;
  });
  return `${registries}rules:\n${rules.join('\n')}\n`;
}

const tags = ['1.0', '1.1', '2.0', 'edge', 'latest', 'v3.'];
const platforms = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64', variant: 'v8' },
];

const KiB = 1024;
const MiB = 1024 * KiB;

export class Owner {
  /** What the target's tag was to be, from its first push on, by `source:tag`. */
  readonly history = new Map<string, Digest[]>();
  /** Tags whose last push somebody said to have taken. */
  readonly promised = new Set<string>();
  /** Manifests that could ever be pulled. */
  readonly manifests = new Set<Digest>();
  readonly #scene: Scene;
  readonly #random: Random;
  #pushes = 0;

  constructor(scene: Scene, random: Random) {
    this.#scene = scene;
    this.#random = random;
  }

  /** What the target of a tag is to be now; `undefined` where the source has no such tag. */
  expected(mirror: Mirror, tag: string): Digest | undefined {
    const there = this.#scene.hub.repository(mirror.source).tags.get(tag);
    return there === undefined ? undefined : this.history.get(`${mirror.source}:${tag}`)?.at(-1);
  }

  /** Something new under one of the tags. */
  async push(tell: boolean): Promise<void> {
    const random = this.#random;
    const mirror = random.pick(mirrors);
    const tag = random.pick(tags);
    const content = this.#make(mirror);
    const { hub } = this.#scene;
    const name = `${mirror.source}:${tag}`;
    const past = this.history.get(name) ?? [];
    past.push(await expectedDigest(mirror, content));
    this.history.set(name, past);
    this.#remember(content);
    if (!mirror.narrow && random.next() < 0.2) {
      const { digest } = content.descriptor;
      const signature = cosignSignature(digest);
      this.#remember(signature);
      await hub.push(mirror.source, cosignTag(digest, 'sig'), signature);
    }
    this.promised.delete(name);
    await hub.push(mirror.source, tag, content);
    if (tell && (await this.#tell(mirror.source, tag))) this.promised.add(name);
  }

  delete(): void {
    const mirror = this.#random.pick(mirrors);
    const tag = this.#random.pick(tags);
    this.#scene.hub.repository(mirror.source).removeTag(tag);
    this.promised.delete(`${mirror.source}:${tag}`);
  }

  /** Docker Hub tells once; who is not there misses it. */
  async #tell(repository: string, tag: string): Promise<boolean> {
    const host = this.#random.pick(this.#scene.hosts);
    try {
      const answer = await fetch(`${host.url}/api/webhook`, {
        method: 'POST',
        headers: { 'x-functions-key': host.key() },
        body: JSON.stringify(webhookBody(repository, tag)),
      });
      await answer.arrayBuffer();
      return answer.status === 202;
    } catch {
      return false;
    }
  }

  #make(mirror: Mirror): Content {
    const random = this.#random;
    this.#pushes += 1;
    const seed = `push ${this.#pushes}`;
    const layers = Array.from({ length: random.between(1, 4) }, () => this.#size());
    if (mirror.narrow || random.next() < 0.2) return buildMultiPlatform(seed, platforms, layers);
    // Some layers come again and again, as base layers do.
    const base = random.between(0, 4);
    return buildManifest({
      seed: `base ${base}`,
      layers: [10 * KiB + base, ...layers],
      annotations: { seed },
    });
  }

  #size(): number {
    const random = this.#random;
    const chance = random.next();
    if (chance < 0.8) return random.between(1, 40 * KiB);
    // More than one chunk of ACR.
    return chance < 0.95 ? random.between(200 * KiB, 2 * MiB) : random.between(9 * MiB, 24 * MiB);
  }

  #remember({ descriptor, children }: Content): void {
    this.manifests.add(descriptor.digest);
    for (const child of children) this.#remember(child);
  }
}

async function expectedDigest({ narrow }: Mirror, content: Content): Promise<Digest> {
  if (!narrow) return content.descriptor.digest;
  const nothingNested = () => Promise.reject(new Error('The owner nests no index'));
  const derived = await deriveIndex(content, [parsePlatformPattern(keptPlatform)], nothingNested);
  return derived.manifest.descriptor.digest;
}
