/** What rules want of pushes and of requests, by their names alone. No other filter is decided here. */
import type { Rule, RuleTarget } from '../../config/model.ts';
import { lateReferrers } from '../copy/referrers.ts';
import type { CopyRequest } from '../request.ts';
import { TagNames } from '../select/names.ts';
import { forRepository, isNamespace } from '../select/namespace.ts';
import { matchesNames } from '../select/select.ts';

export interface Push {
  /** Canonical, `docker.io/library/nginx`. */
  readonly repository: string;
  readonly tag: string;
  /** Milliseconds since the epoch. */
  readonly pushedAt: number;
}

export interface Wanted {
  /** For a namespace rule: as it is for the repository. */
  readonly rule: Rule;
  readonly target: RuleTarget;
}

/** Whether a push concerns a rule. */
export function wants(rule: Rule, push: Push): boolean {
  const { host, path } = rule.source;
  const name = `${host}/${path}`;
  const here = isNamespace(rule.source)
    ? push.repository.startsWith(name.slice(0, -1))
    : push.repository === name;
  return here && matchesNames(rule)(push.tag);
}

/** Who asks for a request now; undefined where nobody does any more. */
export function wantedBy(rules: readonly Rule[], request: CopyRequest): Wanted | undefined {
  const named = rules.find(({ name }) => name === request.rule);
  if (named === undefined) return undefined;
  const rule = forRepository(named, request.source.slice(request.source.indexOf('/') + 1));
  const target = rule.targets.find((one) => asksFor(rule, one, request));
  return target && { rule, target };
}

/** Whether the rule has these tags go where the request would take them: no message writes under a name of its own. */
function asksFor(rule: Rule, target: RuleTarget, request: CopyRequest): boolean {
  if (`${target.host}/${target.path}` !== request.target) return false;
  const names = new TagNames(rule, target);
  return request.tags.every((tag) => {
    if (tag.source !== '') return tag.target === names.target(tag.source);
    return asksForDigest(rule, target, request, tag.target);
  });
}

/** No filter is decided for what has no source tag: it has to be the rule's source itself, or said late about what the target has. */
function asksForDigest(rule: Rule, target: RuleTarget, request: CopyRequest, tag: string): boolean {
  const { selector } = rule.source;
  const isSource = selector.kind === 'digest' && selector.digest === request.digest;
  return isSource ? tag === (target.tags?.[0] ?? '') : tag === '' && request.reason === lateReferrers;
}
