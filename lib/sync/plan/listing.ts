/** The tags of one repository as far as they were read: a page at a time, or one by one. */
import { codeOf, type ErrorCode, HubferryError } from '../../errors.ts';
import type { Digest } from '../../oci/descriptor.ts';
import type { CallOptions, Resolver, TagEntry, TagLister } from '../../oci/roles.ts';
import { forEachOf } from '../concurrency.ts';
import { type Dated, TagTable } from '../select/tag-table.ts';
import { type ListingState, pack, unpack } from './listing-state.ts';

/** What a listing needs of a repository. */
export interface Listable extends TagLister, Resolver {
  readonly name: string;
  describeTag?(tag: string, options?: CallOptions): Promise<TagEntry | undefined>;
}

export interface LookOptions {
  readonly signal: AbortSignal;
  /** Requests in flight. */
  readonly width: number;
  /** Ask for the time of the last push too. */
  readonly timed?: boolean;
}

/** Far above any repository; a list without an end would take all of the memory. */
const mostTags = 500_000;

/** What the next tag would meet as well: a failure of the repository, not of one tag. */
const failuresOfAll: ReadonlySet<ErrorCode | undefined> = new Set([
  'ERR_UNAUTHORIZED',
  'ERR_FORBIDDEN',
  'ERR_IDENTITY',
  'ERR_CONNECTION',
  'ERR_TLS',
  'ERR_RATE_LIMITED',
]);

export class Listing {
  readonly #repository: Listable;
  /** Sure are those whose digest the registry itself told; a page only hints. */
  readonly #tags = new TagTable();
  readonly #failures = new Map<string, unknown>();
  #state: ListingState['state'] = 'unread';
  #next: string | undefined;
  #reading: Promise<void> | undefined;
  #steps = 0;
  /** Entries of all pages, of which some may tell of the same tag. */
  #listed = 0;

  constructor(repository: Listable) {
    this.#repository = repository;
  }

  /** A listing that goes on where another process left it. */
  static restore(repository: Listable, saved: ListingState): Listing {
    const listing = new Listing(repository);
    listing.#state = saved.state;
    listing.#next = saved.next;
    for (const [entry, isSure] of unpack(saved)) listing.#tags.set(entry, isSure);
    listing.#listed = listing.#tags.size;
    return listing;
  }

  /** All that it takes to go on in another process; what could not be told is asked for again. */
  save(): ListingState {
    return { state: this.#state, next: this.#next, ...pack(this.#tags) };
  }

  /** Answers that it took in since it was made. */
  get steps(): number {
    return this.#steps;
  }

  /** Whether the repository was read to its end. */
  get isWhole(): boolean {
    return this.#state === 'whole';
  }

  /** Whether there is no such repository. */
  get isAbsent(): boolean {
    return this.#state === 'absent';
  }

  /** The names of the tags: another rule may have asked for a digest, which is none. */
  get names(): Iterable<string> {
    return Iterator.from(this.#tags.names).filter((name) => !name.includes(':'));
  }

  /** The tags with the times of their last pushes. */
  get entries(): Iterable<Dated> {
    return Iterator.from(this.names).map((name) => ({ name, pushedAt: this.#tags.pushedAt(name) }));
  }

  has(tag: string): boolean {
    return this.#tags.has(tag);
  }

  get(tag: string): TagEntry | undefined {
    return this.#tags.get(tag);
  }

  digestOf(tag: string): Digest | undefined {
    return this.#tags.digestOf(tag);
  }

  /** Why the digest of a tag is not known. */
  failureOf(tag: string): unknown {
    return this.#failures.get(tag);
  }

  /**
   * Reads every page, from where it stands. Callers at the same time share the work.
   * @throws what the lister throws; ERR_LISTING_INCOMPLETE where a page is missing
   */
  read(signal: AbortSignal, onPage?: (tags: number) => void): Promise<void> {
    this.#reading ??= this.#readPages(signal, onPage).finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  /** Asks for tags one by one; those that are not there are left out. */
  async look(tags: Iterable<string>, options: LookOptions): Promise<void> {
    const { signal, width, timed = false } = options;
    await forEachOf(tags, width, async (name) => {
      const described = timed ? await this.#repository.describeTag?.(name, { signal }) : undefined;
      await this.#tryToAsk({ ...described, name }, signal);
    });
  }

  /** Asks for the digests that no page told; tags that are gone meanwhile are left out. */
  async complete(tags: Iterable<string>, { signal, width }: LookOptions): Promise<void> {
    const untold: TagEntry[] = [];
    for (const name of tags) {
      if (this.#tags.digestOf(name) !== undefined) continue;
      const entry = this.#tags.get(name);
      if (entry !== undefined) untold.push(entry);
    }
    await forEachOf(untold, width, (entry) => this.#tryToAsk(entry, signal));
  }

  /** The tag as the registry itself has it now; what it told before is believed. */
  async confirm(tag: string, signal: AbortSignal): Promise<TagEntry | undefined> {
    const entry = this.#tags.get(tag);
    return entry === undefined || this.#tags.isSure(tag) ? entry : this.#ask(entry, signal);
  }

  async #readPages(signal: AbortSignal, onPage?: (tags: number) => void): Promise<void> {
    while (this.#state === 'unread') {
      signal.throwIfAborted();
      const page = await this.#repository.listTags({ cursor: this.#next, signal });
      if (page === undefined) return this.#endWithoutPage();
      this.#listed += page.tags.length;
      if (this.#listed > mostTags) throw this.#tooMany();
      for (const entry of page.tags) this.#add(entry);
      this.#steps += 1;
      this.#next = page.next;
      if (page.next === undefined) this.#state = 'whole';
      onPage?.(this.#tags.size);
    }
  }

  #tooMany(): HubferryError {
    const what = `${this.#repository.name} lists more than ${mostTags} tags: name those that are wanted`;
    return new HubferryError('ERR_TOO_LARGE', what);
  }

  #endWithoutPage(): void {
    if (this.#next !== undefined) {
      throw new HubferryError('ERR_LISTING_INCOMPLETE', `A page of ${this.#repository.name} is missing`);
    }
    this.#state = 'absent';
  }

  /** A list read in pages shows a tag twice when it is pushed meanwhile: the later push counts. */
  #add(entry: TagEntry): void {
    if ((this.#tags.pushedAt(entry.name) ?? 0) <= (entry.pushedAt ?? 0)) this.#tags.set(entry, false);
  }

  async #tryToAsk(entry: TagEntry, signal: AbortSignal): Promise<void> {
    try {
      await this.#ask(entry, signal);
    } catch (error) {
      if (signal.aborted || failuresOfAll.has(codeOf(error))) throw error;
      this.#tags.set(entry, false);
      this.#failures.set(entry.name, error);
    }
  }

  async #ask(entry: TagEntry, signal: AbortSignal): Promise<TagEntry | undefined> {
    const found = await this.#repository.resolve(entry.name, { signal });
    this.#steps += 1;
    if (found === undefined) {
      this.#tags.delete(entry.name);
      return undefined;
    }
    const sure = { ...entry, digest: found.digest };
    this.#tags.set(sure, true);
    return sure;
  }
}

/** What one rule compares. */
export interface Listings {
  readonly source: Listing;
  readonly target: Listing;
}

/** Sources that several rules or targets of a run read: each is listed once, and let go with its last user. */
export class SharedListings {
  readonly #users = new Map<string, number>();
  readonly #open = new Map<string, Listing>();

  /** Announces a user of a repository. */
  expect(name: string): void {
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1);
  }

  of(repository: Listable): Listing {
    const listing = this.#open.get(repository.name) ?? new Listing(repository);
    this.#open.set(repository.name, listing);
    return listing;
  }

  /** A user is done. */
  leave(name: string): void {
    const left = (this.#users.get(name) ?? 1) - 1;
    this.#users.set(name, left);
    if (left <= 0) this.#open.delete(name);
  }
}
