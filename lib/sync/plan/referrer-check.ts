/** Whether the target has what the source says about a manifest: signatures, attestations and SBOMs. */
import { HubferryError } from '../../errors.ts';
import type { Digest } from '../../oci/descriptor.ts';
import { algorithmOf } from '../../oci/digest.ts';
import { parseManifest } from '../../oci/manifest.ts';
import { referrerTag } from '../../oci/reference.ts';
import { cosignSuffixes, maxReferrerDepth, maxReferrers } from '../copy/referrers.ts';
import type { PlanInput } from './planner.ts';
import { type ReferrerTag, type ReferrerTags, referrerTagsIn } from './referrer-tags.ts';

interface Said {
  readonly digest: Digest;
  readonly isThere: boolean;
}

export interface SaidAbout {
  readonly there: ReadonlySet<Digest>;
  readonly missing: ReadonlySet<Digest>;
}

export class ReferrerCheck {
  readonly #input: PlanInput;
  /** Absent where the source was not listed: each digest is asked for. */
  readonly #listed: ReferrerTags | undefined;

  private constructor(input: PlanInput, listed: ReferrerTags | undefined) {
    this.#input = input;
    this.#listed = listed;
  }

  /** Looks at what was listed for a plan. */
  static async open(input: PlanInput, width: number): Promise<ReferrerCheck> {
    const { listings, signal } = input;
    const { source } = listings;
    return new ReferrerCheck(
      input,
      source.isWhole ? await referrerTagsIn(source, { signal, width }) : undefined,
    );
  }

  /** What is said about a digest, and about that, as deep as copies follow it. */
  async about(root: Digest): Promise<SaidAbout> {
    const there = new Set<Digest>();
    const missing = new Set<Digest>();
    let subjects: readonly Digest[] = [root];
    for (let depth = 0; depth < maxReferrerDepth && subjects.length > 0; depth += 1) {
      const next: Digest[] = [];
      for (const subject of subjects) {
        for (const { digest, isThere } of await this.#saidAbout(subject)) {
          if (there.has(digest) || missing.has(digest)) continue;
          (isThere ? there : missing).add(digest);
          if (isThere) next.push(digest);
        }
        if (there.size + missing.size > maxReferrers) throw tooMany(root);
      }
      subjects = next;
    }
    return { there, missing };
  }

  async #saidAbout(subject: Digest): Promise<Said[]> {
    return [...(await this.#inTags(subject)), ...(await this.#inReferrers(subject))];
  }

  async #inTags(subject: Digest): Promise<Said[]> {
    const said: Said[] = [];
    for (const { tag, digest } of await this.#tagsAbout(subject)) {
      const present = await this.#digestAtTarget(tag);
      // The same bytes may be known by another algorithm's digest.
      const isThere =
        present !== undefined && (present === digest || algorithmOf(present) !== algorithmOf(digest));
      said.push({ digest, isThere });
    }
    return said;
  }

  async #tagsAbout(subject: Digest): Promise<readonly ReferrerTag[]> {
    // The tag schema's index is translated, and is another one at the target.
    if (this.#listed !== undefined) return this.#listed.about(subject).filter(({ tag }) => tag.includes('.'));
    const { sides, signal } = this.#input;
    const tags: ReferrerTag[] = [];
    for (const suffix of cosignSuffixes) {
      const tag = referrerTag(subject, suffix);
      const found = await sides.source.resolve(tag, { signal });
      if (found !== undefined) tags.push({ tag, digest: found.digest });
    }
    return tags;
  }

  async #digestAtTarget(tag: string): Promise<Digest | undefined> {
    const { listings, sides, signal } = this.#input;
    const entry = listings.target.get(tag);
    if (entry?.digest !== undefined) return entry.digest;
    if (entry === undefined && listings.target.isWhole) return undefined;
    return (await sides.target.resolve(tag, { signal }))?.digest;
  }

  async #inReferrers(subject: Digest): Promise<Said[]> {
    const { sides, signal } = this.#input;
    const { source, target } = sides;
    if (source.billed === true) return this.#brought(subject);
    const { descriptors } = await source.listReferrers(subject, { signal });
    if (descriptors.length === 0) return [];
    const there = await target.listReferrers(subject, { signal });
    const digests = new Set(there.descriptors.map(({ digest }) => digest));
    const said: Said[] = [];
    for (const { digest } of descriptors) {
      const isThere = digests.has(digest);
      if (isThere || (await this.#isAbout(digest, subject))) said.push({ digest, isThere });
    }
    return said;
  }

  /** Where a read may be billed, tags alone are looked at; what was brought otherwise leads to those that are about it. */
  async #brought(subject: Digest): Promise<Said[]> {
    if (this.#listed?.isEmpty === true) return [];
    const { sides, signal } = this.#input;
    const { descriptors } = await sides.target.listReferrers(subject, { signal });
    return descriptors.map(({ digest }) => ({ digest, isThere: true }));
  }

  /** A list may say anything: copies leave out what is about something else. */
  async #isAbout(digest: Digest, subject: Digest): Promise<boolean> {
    const { sides, signal } = this.#input;
    const manifest = await sides.source.fetchManifest(digest, { signal });
    return manifest !== undefined && parseManifest(manifest).subject?.digest === subject;
  }
}

function tooMany(root: Digest): HubferryError {
  return new HubferryError('ERR_TOO_LARGE', `There are more than ${maxReferrers} referrers of ${root}`);
}
