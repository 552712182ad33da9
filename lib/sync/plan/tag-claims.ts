/** What other rules want of a few target tags now: each rival is asked for these alone. */

import type { Rule, Rules, RuleTarget } from '../../config/model.ts';
import type { Claims } from '../copy/work.ts';
import type { Tally } from '../runs/tally.ts';
import { TagNames } from '../select/names.ts';
import { needsWholeList } from '../select/select.ts';
import type { Core } from './core.ts';
import { Listing } from './listing.ts';
import { claimsOn, noClaims, selectedIn } from './rivals.ts';

export interface Asking {
  readonly core: Core;
  readonly rules: Rules;
  readonly tally: Tally;
  readonly signal: AbortSignal;
}

/** Asked for when it is needed, once. */
export function claimsOnTags(
  rule: Rule,
  target: RuleTarget,
  tags: readonly string[],
  { core, rules, tally, signal }: Asking,
): () => Promise<Claims> {
  const selected = async (other: Rule, shared: RuleTarget) => {
    const { source } = core.open(other, shared, tally);
    // Docker Hub forbids to look at what is not there, and a namespace need not have such a repository.
    const isOfNamespace = !rules.rules.includes(other);
    if (isOfNamespace && (await source.listTags({ signal })) === undefined) return [];
    const listing = new Listing(source);
    const names = new TagNames(other, shared);
    if (needsWholeList(other)) await listing.read(signal);
    else
      await listing.look(
        tags.map((tag) => names.source(tag)),
        { signal, width: tags.length, timed: true },
      );
    return selectedIn(listing, other);
  };
  let known: Promise<Claims> | undefined;
  return () => {
    known ??= tags.every((tag) => tag === '')
      ? Promise.resolve(noClaims)
      : claimsOn(target, rule, rules.rules, selected, { signal, mirrored: core.mirrored });
    return known;
  };
}
