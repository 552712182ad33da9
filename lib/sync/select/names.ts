/** What things are called. */
import { createHash } from 'node:crypto';
import type { Rule, RuleTarget } from '../../config/model.ts';
import type { Digest } from '../../oci/descriptor.ts';

/** What a tag of the source is called at the target, and back. A source given by digest has that digest for a name. */
export class TagNames {
  readonly #toTarget = new Map<string, string>();
  readonly #toSource = new Map<string, string>();

  /** @param derived the digest at the target of a source digest that gets no tag there, where platforms make it another one */
  constructor(rule: Rule, target: RuleTarget, derived?: (source: Digest) => Digest | undefined) {
    const { selector } = rule.source;
    const names =
      selector.kind === 'tags' ? selector.tags : selector.kind === 'digest' ? [selector.digest] : [];
    for (const [index, name] of names.entries()) {
      const other =
        target.tags?.[index] ?? (selector.kind === 'digest' ? derived?.(selector.digest) : undefined);
      if (other === undefined) continue;
      this.#toTarget.set(name, other);
      this.#toSource.set(other, name);
    }
  }

  target(source: string): string {
    return this.#toTarget.get(source) ?? source;
  }

  source(target: string): string {
    return this.#toSource.get(target) ?? target;
  }
}

/** A repository's name with a tag or digest, as people write it. */
export function nameOf(repository: string, reference: string): string {
  return isDigestName(reference) ? `${repository}@${reference}` : `${repository}:${reference}`;
}

/** What a request calls a reference: a digest is no tag. */
export function tagOf(reference: string): string {
  return isDigestName(reference) ? '' : reference;
}

function isDigestName(reference: string): boolean {
  return reference.includes(':');
}

/** A short name for what these facts tell: the same facts have the same. */
export function idFrom(...facts: readonly unknown[]): string {
  return createHash('sha256').update(facts.join('\n')).digest('hex').slice(0, 24);
}
