/**
 * Facts that save requests or keep deletes safe. A fact is a key, so that one listing reads them all and writing one twice
 * changes nothing; only a failure's message and the digest of what a rule mirrored are its content.
 */
import { createHash } from 'node:crypto';
import { HubferryError } from '../../errors.ts';
import { rewriteVersion } from '../../oci/derive.ts';
import type { Digest } from '../../oci/descriptor.ts';
import { formatPlatformPattern, type PlatformPattern } from '../../oci/platform.ts';
import type { DocumentStore } from '../../storage/ports.ts';

const nothing = new Uint8Array(0);

/** What a platform filter makes of a source digest: the derived digest, or nothing to copy. */
export type Derived = Digest | 'skip';
/** The same, or that it fails. */
export type Remembered = Derived | 'failed';

/** What the target is to have, where that is known to be something. */
export function digestIn(remembered: Remembered | undefined): Digest | undefined {
  return remembered === 'skip' || remembered === 'failed' ? undefined : remembered;
}

export class Facts {
  readonly #store: DocumentStore;

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  /** Derived digests by source digest, for one set of platforms; of one source digest only where it is given. */
  async derived(platforms: readonly PlatformPattern[], source?: Digest): Promise<Map<Digest, Remembered>> {
    const found = new Map<Digest, Remembered>();
    const prefix = `derived/${platformsKey(platforms)}/`;
    for await (const name of this.#store.list(prefix + (source === undefined ? '' : `${source}/`))) {
      const [from, to] = name.key.slice(prefix.length).split('/');
      if (from !== undefined && to !== undefined) found.set(from as Digest, to as Remembered);
    }
    return found;
  }

  /** What was derived under any set of platforms: `source derived`. */
  async derivations(): Promise<Set<string>> {
    const found = new Set<string>();
    for await (const { key } of this.#store.list('derived/')) {
      const [, , from, to] = key.split('/');
      found.add(`${from} ${to}`);
    }
    return found;
  }

  async noteDerived(platforms: readonly PlatformPattern[], source: Digest, derived: Derived): Promise<void> {
    await this.#store.put(`derived/${platformsKey(platforms)}/${source}/${derived}`, nothing);
  }

  /** No platform of an index is kept: who pulls it again finds the same. */
  async noteNotDerived(
    platforms: readonly PlatformPattern[],
    source: Digest,
    { message }: HubferryError,
  ): Promise<void> {
    await this.#store.put(`derived/${platformsKey(platforms)}/${source}/failed`, Buffer.from(message));
  }

  /** Why nothing was derived. */
  async whyNotDerived(platforms: readonly PlatformPattern[], source: Digest): Promise<HubferryError> {
    const document = await this.#store.get(`derived/${platformsKey(platforms)}/${source}/failed`);
    return new HubferryError('ERR_PLATFORM_MISSING', Buffer.from(document?.bytes ?? nothing).toString());
  }

  /** Whether two digests of different algorithms were found to be of the same bytes. */
  async isSame(source: Digest, target: Digest): Promise<boolean> {
    return (await this.#store.get(`same/${source}/${target}`)) !== undefined;
  }

  async noteSame(source: Digest, target: Digest): Promise<void> {
    await this.#store.put(`same/${source}/${target}`, nothing);
  }

  /** Target tags that were put there from a source: names of repositories, for rules are renamed and divided. */
  async mirrored(source: string, target: string): Promise<Set<string>> {
    const prefix = mirroredKey(source, target, '');
    const tags = new Set<string>();
    for await (const name of this.#store.list(prefix)) tags.add(name.key.slice(prefix.length));
    return tags;
  }

  /** What was put there last. */
  async mirroredAs(source: string, target: string, tag: string): Promise<Mirrored | undefined> {
    const document = await this.#store.get(mirroredKey(source, target, tag));
    if (document === undefined) return undefined;
    const [digest = '', from = ''] = Buffer.from(document.bytes).toString().split(' ');
    return { digest: digest as Digest, from };
  }

  async noteMirrored(source: string, target: string, tag: string, { digest, from }: Mirrored): Promise<void> {
    await this.#store.put(mirroredKey(source, target, tag), Buffer.from(`${digest} ${from}`));
  }

  async forgetMirrored(source: string, target: string, tag: string): Promise<void> {
    await this.#store.delete(mirroredKey(source, target, tag));
  }

  /** Referrer tags of the source, each with the digest it had when it was brought to the target: `tag@digest`. */
  async referrers(target: string): Promise<Set<string>> {
    const prefix = `referrers/${shortHash(target)}/`;
    const seen = new Set<string>();
    for await (const name of this.#store.list(prefix))
      seen.add(name.key.slice(prefix.length).replace('/', '@'));
    return seen;
  }

  /** The last one counts: a tag may go back to what it was before. */
  async noteReferrer(target: string, tag: string, digest: Digest): Promise<void> {
    const prefix = `referrers/${shortHash(target)}/${tag}/`;
    await this.#store.put(prefix + digest, nothing);
    for await (const { key } of this.#store.list(prefix))
      if (key !== prefix + digest) await this.#store.delete(key);
  }

  /** What nobody asks for again until its subject comes to the target. */
  async asides(target: string): Promise<Aside[]> {
    const found: Aside[] = [];
    for await (const { key } of this.#store.list(`aside/${shortHash(target)}/`)) {
      const [, , subject = '', tag = '', digest = ''] = key.split('/');
      found.push({ subject: subject as Digest, tag, digest: digest as Digest });
    }
    return found;
  }

  async noteAside(target: string, aside: Aside): Promise<void> {
    await this.#store.put(asideKey(target, aside), nothing);
  }

  async forgetAside(target: string, aside: Aside): Promise<void> {
    await this.#store.delete(asideKey(target, aside));
  }
}

/** What a target tag was made of. */
export interface Mirrored {
  readonly digest: Digest;
  /** The source's tag; empty for what was named by digest. */
  readonly from: string;
}

/** A referrer tag whose subject the target did not have. */
export interface Aside {
  readonly subject: Digest;
  readonly tag: string;
  readonly digest: Digest;
}

function asideKey(target: string, { subject, tag, digest }: Aside): string {
  return `aside/${shortHash(target)}/${subject}/${tag}/${digest}`;
}

function mirroredKey(source: string, target: string, tag: string): string {
  return `mirrored/${shortHash(`${source}\n${target}`)}/${tag}`;
}

function platformsKey(platforms: readonly PlatformPattern[]): string {
  const names = platforms.map(formatPlatformPattern).sort();
  return shortHash(`${rewriteVersion}\n${names.join('\n')}`);
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}
