/** Which referrers of a source's listing concern what, and which of them were not brought yet. */
import type { Digest } from '../../oci/descriptor.ts';
import { lateReferrers } from '../copy/referrers.ts';
import type { ReferrerTag, ReferrerTags } from './referrer-tags.ts';

/** More than so many are not named in a message: each digest is asked for then. */
const maxReferrerTags = 100;

export class LateReferrers {
  readonly #tags: ReferrerTags;
  readonly #known: ReadonlySet<string>;
  readonly #isWhole: boolean;
  /** What is said about digests that no selected tag stands for, such as the platforms of an index. */
  readonly #strays: readonly (readonly [Digest, readonly ReferrerTag[]])[];

  /**
   * @param tagged digests of the selected tags
   * @param known what was brought or put aside before, each as `tag@digest`
   * @param isWhole whether the tags are all that the source has; otherwise they are all about digests that were asked for
   */
  constructor(tags: ReferrerTags, tagged: ReadonlySet<Digest>, known: ReadonlySet<string>, isWhole: boolean) {
    this.#tags = tags;
    this.#known = known;
    this.#isWhole = isWhole;
    this.#strays = isWhole ? [...tags.roots].filter(([root]) => !tagged.has(root)) : [];
  }

  /** Whether a request has to ask for more than it is told of. */
  get hasMore(): boolean {
    return !this.#isWhole;
  }

  /** Whether something about this digest was not brought yet. */
  isLate(digest: Digest): boolean {
    return this.#tags.about(digest).some((tag) => this.#isNew(tag));
  }

  /** Digests that no selected tag stands for, with what was not brought yet. */
  *strays(): Generator<[Digest, readonly ReferrerTag[]]> {
    for (const [root, tags] of this.#strays) {
      const late = tags.filter((tag) => this.#isNew(tag));
      if (late.length > 0) yield [root, late];
    }
  }

  /**
   * What a request for a digest has to look at: all that is said about it, and what no tag leads to, since that may be
   * about its platforms, or about what is said about it. `undefined`: nobody looked, or too much for a message.
   */
  concerning(digest: Digest, reason: string): ReferrerTag[] | undefined {
    if (!this.#isWhole && reason !== lateReferrers) return undefined;
    const found = [...this.#tags.about(digest)];
    for (const [root, tags] of this.#strays) {
      if (root !== digest) found.push(...tags);
      if (found.length > maxReferrerTags) return undefined;
    }
    return found;
  }

  #isNew({ tag, digest }: ReferrerTag): boolean {
    return !this.#known.has(`${tag}@${digest}`);
  }
}
