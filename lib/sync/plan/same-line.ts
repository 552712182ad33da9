import type { Digest } from '../../oci/descriptor.ts';
import type { Line } from '../runs/report.ts';
import { nameOf, type TagNames } from '../select/names.ts';
import type { Listings } from './listing.ts';
import type { PlanInput } from './planner.ts';

/** What the lines of one rule and target have in common. */
export interface Pair {
  readonly input: PlanInput;
  readonly listings: Listings;
  readonly names: TagNames;
}

/**
 * The line of a tag that is as it is to be, put together when it is read: of 100,000 tags most are so, and their texts
 * would be most of what a plan holds.
 */
export class SameLine implements Line<'unchanged'> {
  readonly #pair: Pair;
  readonly #tag: string;

  constructor(pair: Pair, tag: string) {
    this.#pair = pair;
    this.#tag = tag;
  }

  get outcome(): 'unchanged' {
    return 'unchanged';
  }

  get rule(): string {
    return this.#pair.input.rule.name;
  }

  get source(): string {
    return nameOf(this.#pair.input.sides.source.name, this.#tag);
  }

  get target(): string {
    const { input, names } = this.#pair;
    return nameOf(input.sides.target.name, names.target(this.#tag));
  }

  get digest(): Digest {
    // The same as the source's, which other rules read too and may find another by now.
    const { listings, names } = this.#pair;
    return listings.target.digestOf(names.target(this.#tag)) as Digest;
  }

  /** All of it, as an object of its own. */
  toJSON(): Line<'unchanged'> {
    const { rule, source, target, digest, outcome } = this;
    return { rule, source, target, digest, outcome };
  }
}

/** The line with another outcome; the very line where it has that one. */
export function withOutcome<Outcome extends string>(line: Line, outcome: Outcome): Line<Outcome> {
  if (isOf(line, outcome)) return line;
  return { ...(line instanceof SameLine ? line.toJSON() : line), outcome };
}

function isOf<Outcome extends string>(line: Line, outcome: Outcome): line is Line<Outcome> {
  return line.outcome === outcome;
}
