/**
 * How far a plan request has come, kept in storage between its messages: the listings as far as they were read, and which
 * requests are about to be, and were, sent. One process at a time goes on with it.
 */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { codeOf, HubferryError } from '../../errors.ts';
import type { DocumentStore, Lease } from '../../storage/ports.ts';
import { forEachOf } from '../concurrency.ts';
import { type CopyRequest, copyRequestSchema } from '../request.ts';
import type { Opened } from '../runs/parts.ts';
import { parseStored } from '../stored.ts';
import { type Listable, Listing } from './listing.ts';
import { parseListing } from './listing-state.ts';

const prefix = 'plans/';
const leaseSeconds = 60;
const renewEveryMs = 20_000;
const documentsAtOnce = 16;

const pendingSchema = z.array(copyRequestSchema);

const sentSchema = z.object({ asked: z.array(z.string()), opened: z.array(z.custom<Opened>()) });
/** Requests that were asked for, and what the run waits for instead. */
export type Sent = z.infer<typeof sentSchema>;

export class PlanProgress {
  /** Names it in a message. */
  readonly key: string;
  readonly #store: DocumentStore;
  readonly #lease: Lease;
  readonly #renewal: NodeJS.Timeout;
  /** Keys of what was saved before. */
  readonly #saved: ReadonlySet<string>;
  readonly #listings = new Map<string, Listing>();
  #batches = 0;
  #lost: unknown;

  private constructor(store: DocumentStore, key: string, lease: Lease, saved: ReadonlySet<string>) {
    this.key = key;
    this.#store = store;
    this.#lease = lease;
    this.#saved = saved;
    this.#batches = saved.size;
    this.#renewal = setInterval(() => {
      lease.renew().catch((error: unknown) => {
        if (codeOf(error) === 'ERR_LEASE_LOST') this.#lost = error;
      });
    }, renewEveryMs);
    this.#renewal.unref();
  }

  /** `undefined` while another process works on the same request. */
  static async take(store: DocumentStore, run: string, id: string): Promise<PlanProgress | undefined> {
    const key = plansOf(run) + id;
    const lease = await store.lease(`${key}/lease`, leaseSeconds);
    if (lease === undefined) return undefined;
    const saved = new Set<string>();
    for await (const name of store.list(`${key}/`)) if (name.key !== lease.key) saved.add(name.key);
    return new PlanProgress(store, key, lease, saved);
  }

  /** Whether anything was read or sent since it was taken. */
  get hasMoved(): boolean {
    const read = [...this.#listings.values()].some(({ steps }) => steps > 0);
    return read || this.#batches > this.#saved.size;
  }

  /** The listing of a repository, from where it stands. */
  async listing(side: 'source' | 'target', repository: Listable): Promise<Listing> {
    const key = this.#keyOf(side, repository);
    const known = this.#listings.get(key);
    if (known !== undefined) return known;
    const document = this.#saved.has(key) ? await this.#store.get(key) : undefined;
    const saved = document && parseListing(document.bytes);
    const listing = saved ? Listing.restore(repository, saved) : new Listing(repository);
    this.#listings.set(key, listing);
    return listing;
  }

  /** What was asked for before; of a damaged batch it is asked for again, which changes nothing. */
  sent(): Promise<Sent> {
    return PlanProgress.#read(
      this.#store,
      [...this.#saved].filter((key) => key.startsWith(`${this.key}/sent-`)),
    );
  }

  /** Names of the requests that a plan has surely sent, whoever works on it. */
  static async askedBy(store: DocumentStore, run: string, id: string): Promise<ReadonlySet<string>> {
    const keys: string[] = [];
    for await (const { key } of store.list(`${plansOf(run)}${id}/sent-`)) keys.push(key);
    const { asked, opened } = await PlanProgress.#read(store, keys);
    return new Set([...asked, ...opened.map((one) => one.id)]);
  }

  static async #read(store: DocumentStore, keys: readonly string[]): Promise<Sent> {
    const asked: string[] = [];
    const opened: Opened[] = [];
    await forEachOf(keys, documentsAtOnce, async (key) => {
      const document = await store.get(key);
      const sent = document && parseStored(document.bytes, sentSchema);
      if (sent === undefined) return;
      for (const id of sent.asked) asked.push(id);
      for (const one of sent.opened) opened.push(one);
    });
    return { asked, opened };
  }

  /** Notes a batch before any of it is asked for: whether it was sent, nobody else may know. */
  notePending(requests: readonly CopyRequest[]): Promise<void> {
    return this.#put(`${this.key}/pending`, requests);
  }

  /** The last batch that was noted before. */
  async pending(): Promise<readonly CopyRequest[]> {
    const key = `${this.key}/pending`;
    const document = this.#saved.has(key) ? await this.#store.get(key) : undefined;
    return (document && parseStored(document.bytes, pendingSchema)) ?? [];
  }

  /** Notes a batch, so that a message that comes twice sends it once. */
  async noteSent(sent: Sent): Promise<void> {
    this.#batches += 1;
    await this.#put(`${this.key}/sent-${this.#batches}`, sent);
  }

  /** Saves the listings for who goes on. */
  async save(): Promise<void> {
    for (const [key, listing] of this.#listings) if (listing.steps > 0) await this.#put(key, listing.save());
  }

  /** The request has ended: nothing is left of it. */
  async finish(): Promise<void> {
    for await (const { key } of this.#store.list(`${this.key}/`))
      await this.#store.delete(key, key === this.#lease.key ? { lease: this.#lease } : {});
  }

  async release(): Promise<void> {
    clearInterval(this.#renewal);
    await this.#lease.release();
  }

  async #put(key: string, value: unknown): Promise<void> {
    if (this.#lost !== undefined) {
      throw new HubferryError('ERR_LEASE_LOST', 'Another process took over this plan', { cause: this.#lost });
    }
    await this.#store.put(key, Buffer.from(JSON.stringify(value)));
  }

  #keyOf(side: string, { name }: Listable): string {
    return `${this.key}/${side}-${createHash('sha256').update(name).digest('hex').slice(0, 32)}`;
  }
}

/** Where the plans of a run keep what they need. */
export function plansOf(run: string): string {
  return `${prefix}${run}/`;
}

/** Deletes what plans have left behind that nobody has come back to. */
export async function tidyPlans(store: DocumentStore, olderThanMs: number): Promise<void> {
  const before = Date.now() - olderThanMs;
  for await (const { key, modifiedAt } of store.list(prefix)) {
    if (modifiedAt < before) await store.delete(key);
  }
}
