/** One target tag that the file itself gives two sources. What only listings show is found by the plan. */
import { formatRepository } from '../oci/reference.ts';
import { matchesNames } from '../sync/select/select.ts';
import type { Path } from './document.ts';
import type { RuleDraft } from './draft.ts';

export interface Claim {
  /** `docker.io/library/nginx:1` or `docker.io/library/nginx@sha256:…`. */
  readonly source: string;
  readonly path: Path;
}

export interface Conflict {
  /** `x.azurecr.io/nginx:1`. */
  readonly tag: string;
  readonly first: Claim;
  readonly second: Claim;
}

/** The first target tag with two sources. */
export function findConflict(drafts: readonly RuleDraft[]): Conflict | undefined {
  const claims = new Map<string, Claim>();
  for (const draft of drafts) {
    for (const { tag, claim } of claimsOf(draft)) {
      const first = claims.get(tag);
      if (first !== undefined && first.source !== claim.source) return { tag, first, second: claim };
      claims.set(tag, first ?? claim);
    }
  }
  return undefined;
}

interface TagClaim {
  readonly tag: string;
  readonly claim: Claim;
}

function claimsOf({ source, tags: filter, targets }: RuleDraft): readonly TagClaim[] {
  const names = namedTags({ source, tags: filter });
  return targets.flatMap(({ target, path }) =>
    names.flatMap(({ suffix, tag, index }) => {
      const name = target.tags?.[index] ?? tag;
      if (name === undefined) return [];
      const claim = { source: formatRepository(source) + suffix, path };
      return [{ tag: `${formatRepository(target)}:${name}`, claim }];
    }),
  );
}

interface NamedTag {
  /** What the source's name ends in. */
  readonly suffix: string;
  /** The target's tag where the target names none. */
  readonly tag: string | undefined;
  /** Position in the target's list. */
  readonly index: number;
}

/** What a source names one by one, as far as the rule's filters take it. */
function namedTags(rule: Pick<RuleDraft, 'source' | 'tags'>): readonly NamedTag[] {
  const { selector } = rule.source;
  if (selector.kind === 'digest') return [{ suffix: `@${selector.digest}`, tag: undefined, index: 0 }];
  if (selector.kind !== 'tags') return [];
  const matches = matchesNames(rule);
  return selector.tags
    .map((tag, index) => ({ suffix: `:${tag}`, tag, index }))
    .filter(({ tag }) => matches(tag));
}
