/** What rules that share a target repository claim there, kept for one run: each source is listed for it once. */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import type { Rule, RuleTarget } from '../../config/model.ts';
import type { DocumentStore } from '../../storage/ports.ts';
import { parseStored } from '../stored.ts';
import type { Listing } from './listing.ts';
import { plansOf } from './plan-progress.ts';
import { selectedIn } from './rivals.ts';

const claimsSchema = z.object({ at: z.number(), tags: z.array(z.string()) });

/** A run that was paused or parked for longer looks again, in milliseconds. */
const believedMs = 3600_000;

export class RunClaims {
  readonly #store: DocumentStore;
  readonly #run: string;

  constructor(store: DocumentStore, run: string) {
    this.#store = store;
    this.#run = run;
  }

  /** The tags that a rule selects, as somebody in this run found them; else from its listing. */
  async of(rule: Rule, target: RuleTarget, list: () => Promise<Listing>): Promise<readonly string[]> {
    const document = await this.#store.get(this.#keyOf(rule, target));
    const known = document && parseStored(document.bytes, claimsSchema);
    if (known !== undefined && Date.now() - known.at < believedMs) return known.tags;
    return this.note(rule, target, await list());
  }

  async note(rule: Rule, target: RuleTarget, listing: Listing): Promise<readonly string[]> {
    const tags = selectedIn(listing, rule);
    await this.#store.put(this.#keyOf(rule, target), Buffer.from(JSON.stringify({ at: Date.now(), tags })));
    return tags;
  }

  #keyOf({ name, source }: Rule, { host, path }: RuleTarget): string {
    const key = createHash('sha256').update(`${name}\n${source.path}\n${host}/${path}`).digest('hex');
    return `${plansOf(this.#run)}claims/${key}`;
  }
}
