/** The referrer tags of a listing (cosign's, and the tag schema's), sorted by what they are in the end about. */
import type { Digest } from '../../oci/descriptor.ts';
import { isReferrerTag, type ReferrerSuffix, referrerTag, referrerTagSubject } from '../../oci/reference.ts';
import type { TagEntry } from '../../oci/roles.ts';
import { cosignSuffixes, maxReferrerDepth } from '../copy/referrers.ts';
import type { Listing, LookOptions } from './listing.ts';

export interface ReferrerTag {
  readonly tag: string;
  readonly digest: Digest;
}

/** Built once a listing, in time and memory that grow with the number of referrer tags alone. */
export class ReferrerTags {
  readonly #byRoot = new Map<Digest, ReferrerTag[]>();

  constructor(entries: Iterable<TagEntry>) {
    const subjects = new Map<Digest, Digest>();
    const found: { readonly tag: ReferrerTag; readonly subject: Digest }[] = [];
    for (const { name, digest } of entries) {
      const subject = referrerTagSubject(name)?.digest;
      if (subject === undefined || digest === undefined) continue;
      found.push({ tag: { tag: name, digest }, subject });
      subjects.set(digest, subject);
    }
    for (const { tag, subject } of found) {
      const root = rootOf(subject, subjects);
      if (root === undefined) continue;
      const tags = this.#byRoot.get(root);
      if (tags === undefined) this.#byRoot.set(root, [tag]);
      else tags.push(tag);
    }
  }

  get isEmpty(): boolean {
    return this.#byRoot.size === 0;
  }

  /** What is said about a digest, and about that, by tags. */
  about(root: Digest): readonly ReferrerTag[] {
    return this.#byRoot.get(root) ?? [];
  }

  /** Each digest that something is said about and that says nothing itself. */
  get roots(): Iterable<[Digest, readonly ReferrerTag[]]> {
    return this.#byRoot;
  }
}

/** Those of a listing that was read to its end; digests that it does not tell are asked for. */
export async function referrerTagsIn(listing: Listing, options: LookOptions): Promise<ReferrerTags> {
  const names: string[] = [];
  for (const name of listing.names) if (isReferrerTag(name)) names.push(name);
  await listing.complete(names, options);
  return new ReferrerTags(names.flatMap((name) => listing.get(name) ?? []));
}

/** Asks for the referrer tags of digests, which for a few is cheaper than a listing; what is new is followed by who brings it. */
export async function lookForReferrerTags(
  listing: Listing,
  digests: ReadonlySet<Digest>,
  options: LookOptions,
): Promise<void> {
  const tags = [...digests].flatMap((digest) => suffixes.map((suffix) => referrerTag(digest, suffix)));
  await listing.look(tags, options);
}

const suffixes: readonly ReferrerSuffix[] = ['', ...cosignSuffixes];

/** Where a chain of signatures of signatures begins; `undefined` for one that is longer than it is followed. */
function rootOf(subject: Digest, subjects: ReadonlyMap<Digest, Digest>): Digest | undefined {
  let root = subject;
  for (let depth = 1; depth <= maxReferrerDepth; depth += 1) {
    const next = subjects.get(root);
    if (next === undefined) return root;
    root = next;
  }
  return undefined;
}
