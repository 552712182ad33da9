/**
 * Moves blobs: exists, mount, upload. The bytes go through once, in chunks; where they break, they go on.
 */
import { codeOf, HubferryError } from '../../errors.ts';
import type { Descriptor, Digest } from '../../oci/descriptor.ts';
import type { Source, Target, UploadSession } from '../../oci/roles.ts';
import type { DocumentStore } from '../../storage/ports.ts';
import { backoff } from '../attempts.ts';
import { SharedBudget, SingleFlight } from '../concurrency.ts';
import { pause } from '../waiting.ts';
import { isBegun, OwnedCheckpoint } from './checkpoint.ts';
import { type Chunk, ChunkMemory } from './chunk.ts';
import { ChunkedUpload, type UploadContext } from './chunked-upload.ts';
import { readFrom } from './download.ts';
import { type ChunkSizes, type Limits, smallestChunk } from './limits.ts';
import type { MountCandidates } from './mount.ts';
import { cancelQuietly, exists, isLostUpload, isMismatch } from './uploads.ts';
import { BusyError, countSent, unstopped, type Work } from './work.ts';

/** What is no larger comes in time from whatever source is not given up. */
const smallestPart = 64 * 1024;
const presentMemory = 100_000;
/** So many pushes, and as many copies, may wait for what others are sending: the places of all others are for those with work to do. */
const mostWaiting = 3;
/** What may be small is waited for so long, in milliseconds, by whoever comes. */
const momentMs = 2000;

export interface BlobCopierOptions {
  readonly checkpoints: DocumentStore;
  readonly candidates: MountCandidates;
  readonly limits: Limits;
}

export class BlobCopier {
  readonly #options: BlobCopierOptions;
  readonly #flights = new SingleFlight<void>();
  readonly #slots: SharedBudget;
  readonly #memory: ChunkMemory;
  readonly #waiting = new Waiting(mostWaiting);
  /** Sizes of blobs that this process has seen at a target. A blob that vanished since shows as ERR_BLOB_UNKNOWN at the manifest. */
  readonly #present = new Map<string, number>();

  constructor(options: BlobCopierOptions) {
    this.#options = options;
    const { blobs, keptForPushes } = options.limits;
    this.#slots = new SharedBudget(blobs, keptForPushes.blobs);
    this.#memory = new ChunkMemory(options.limits);
  }

  /** Makes sure of the blob at the target; whoever wants the same one at the same time joins. */
  async ensure(blob: Descriptor, source: Source, target: Target, work: Work): Promise<void> {
    const key = presentKey(target, blob.digest);
    // Another size than the one that was told before: the target knows which is right.
    if (this.#present.get(key) === blob.size) {
      work.tally.noteExisting(key, blob.size);
      return;
    }
    // Whoever gives another size, which only one of both can have, fails alone.
    const flight = `${key} ${blob.size}`;
    const waits = this.#flights.has(flight) && this.#isLarge(blob, target, work);
    using place = waits ? this.#waiting.enter(blob, work) : undefined;
    const transfer = () => {
      // Who joined one that failed at another source does it itself, and waits no more.
      place?.[Symbol.dispose]();
      return this.#transfer(blob, source, target, work);
    };
    await this.#flights.run(flight, place?.signal ?? work.stop, transfer, source.name);
  }

  /** To wait for something else that another request is bringing: what is below it may be little, or large. */
  waitFor(what: Descriptor, work: Work): ReturnType<Waiting['enter']> {
    return this.#waiting.enter(what, work, momentMs);
  }

  /** What one chunk holds is soon there. */
  #isLarge({ size }: Descriptor, { maxChunk }: Target, { yields = false }: Work): boolean {
    return size > this.#memory.sizesFor(this.#slots.used, { maxChunk, minChunk: 0 }, yields).chunk;
  }

  /** Notes a blob of this size as present at the target, as its tag's own manifest names it. */
  notePresent(target: Target, { digest, size }: Pick<Descriptor, 'digest' | 'size'>): void {
    if (this.#present.size >= presentMemory) this.#present.clear();
    this.#present.set(presentKey(target, digest), size);
  }

  /** Forgets what is believed to be present: the target has said otherwise, or everything is to be checked. */
  forget(target: Target, digest: Digest): void {
    this.#present.delete(presentKey(target, digest));
  }

  async #transfer(blob: Descriptor, source: Source, target: Target, work: Work): Promise<void> {
    const place = await this.#slots.acquire(1, work.yields ?? false, work.stop);
    try {
      if (await exists(blob, target, work)) return this.#found(blob, target, work);
      const shared = { ...this.#options, memory: this.#memory, slots: this.#slots, waiting: this.#waiting };
      const transfer = new Transfer(blob, source, target, work, shared);
      const how = await transfer.run();
      if (how === 'existing') return this.#found(blob, target, work);
      work.tally.noteBrought(presentKey(target, blob.digest));
      this.notePresent(target, blob);
      await this.#options.candidates.note(target.name, blob, transfer.refused);
    } finally {
      place.release();
    }
  }

  #found(blob: Descriptor, target: Target, work: Work): void {
    work.tally.noteExisting(presentKey(target, blob.digest), blob.size);
    this.notePresent(target, blob);
  }
}

/** Requests that wait for what another one is sending. */
class Waiting {
  readonly #most: number;
  /** For how many things each of them waits in a place. */
  readonly #requests = new Map<Work, number>();

  constructor(most: number) {
    this.#most = most;
  }

  /**
   * Waits until it is disposed of: after some milliseconds only in a place, of which a request needs one for all that it
   * waits for. The signal tells when there is none, when patience has ended, or the work.
   */
  enter(what: Descriptor, work: Work, freeMs = 0): Disposable & { readonly signal: AbortSignal } {
    const { stop, patienceMs } = work;
    if (patienceMs === Number.POSITIVE_INFINITY) return { signal: stop, [Symbol.dispose]() {} };
    const limit = new AbortController();
    const end = () => limit.abort(stop.reason);
    const giveBack = () => limit.abort(new BusyError(what));
    let hasPlace = false;
    const takePlace = () => {
      hasPlace = this.#tryTake(work);
      if (!hasPlace) giveBack();
    };
    stop.addEventListener('abort', end);
    const timers = [setTimeout(takePlace, freeMs), setTimeout(giveBack, patienceMs)];
    const leave = () => {
      timers.forEach(clearTimeout);
      stop.removeEventListener('abort', end);
      if (hasPlace) this.#leave(work);
      hasPlace = false;
    };
    return { signal: limit.signal, [Symbol.dispose]: leave };
  }

  #tryTake(work: Work): boolean {
    const waits = this.#requests.get(work) ?? 0;
    const others = [...this.#requests.keys()].filter(({ yields }) => yields === work.yields);
    if (waits === 0 && others.length >= this.#most) return false;
    this.#requests.set(work, waits + 1);
    return true;
  }

  #leave(work: Work): void {
    const waits = this.#requests.get(work) ?? 0;
    if (waits > 1) this.#requests.set(work, waits - 1);
    else this.#requests.delete(work);
  }
}

function presentKey(target: Target, digest: Digest): string {
  return `${target.name}@${digest}`;
}

/** What the transfers of a process share. */
interface Shared extends BlobCopierOptions {
  readonly slots: SharedBudget;
  readonly memory: ChunkMemory;
  readonly waiting: Waiting;
}

let transfers = 0;

/** After so many milliseconds another process may have brought what the target did not have. */
const brieflyMs = 1000;

/** One blob on its way to one repository, which was asked for it a moment ago. */
class Transfer {
  readonly #blob: Descriptor;
  readonly #source: Source;
  readonly #target: Target;
  readonly #work: Work;
  readonly #shared: Shared;
  readonly #id: string;
  readonly #begunAt = Date.now();
  /** Repositories that the registry has answered not to have the blob. */
  readonly refused: string[] = [];

  constructor(blob: Descriptor, source: Source, target: Target, work: Work, shared: Shared) {
    this.#blob = blob;
    this.#source = source;
    this.#target = target;
    this.#work = work;
    this.#shared = shared;
    transfers += 1;
    this.#id = `${transfers}`;
  }

  async run(): Promise<'copied' | 'mounted' | 'existing'> {
    const mounted = await this.#mount();
    if (mounted === true) return 'mounted';
    const session = mounted === false ? undefined : mounted;
    this.#tell(session?.offset ?? 0);
    try {
      const how = await this.#upload(session);
      this.#work.onEvent({ type: 'blobEnded', id: this.#id, how: 'copied' });
      return how;
    } catch (error) {
      const how = this.#work.stop.aborted ? 'stopped' : 'failed';
      this.#work.onEvent({ type: 'blobEnded', id: this.#id, how });
      throw error;
    }
  }

  #tell(offset: number): void {
    const { digest, size } = this.#blob;
    this.#work.onEvent({
      type: 'blobStarted',
      id: this.#id,
      target: this.#target.name,
      digest,
      size,
      offset,
    });
  }

  /** Tries the repositories that have the blob; a registry that declines opens a session instead, the last of which is kept. */
  async #mount(): Promise<true | UploadSession | false> {
    const { candidates } = this.#shared;
    let how: true | UploadSession | false = false;
    for (const from of await candidates.nearest(this.#target.name, this.#blob, this.#source.name)) {
      if (typeof how === 'object') await cancelQuietly(how);
      how = await this.#mountFrom(from);
      if (how === true) return true;
    }
    return how;
  }

  async #mountFrom(from: string): Promise<true | UploadSession | false> {
    const mounted = await this.#target.mountBlob(this.#blob.digest, from, { signal: this.#work.stop });
    // Only now its size shows, and whether it is there at all.
    const has = mounted === true && (await exists(this.#blob, this.#target, this.#work));
    if (has) this.#work.tally.blobsMounted += 1;
    // What failed, or is forbidden to this login, may go well the next time, and for others.
    else if (mounted !== false) this.refused.push(from);
    return mounted === true ? has : mounted;
  }

  async #upload(session: UploadSession | undefined): Promise<'copied' | 'existing'> {
    if (!(await this.#goesWhole())) return this.#uploadOwned(session);
    await this.#uploadWhole(session);
    return 'copied';
  }

  /** Whether one chunk holds it, and there is room for that: where memory is short it goes in as many as it takes. */
  async #goesWhole(): Promise<boolean> {
    const { size, digest } = this.#blob;
    const most = this.#work.again ? smallestPart : this.#chunkSizes(0).chunk;
    if (size > most) return false;
    // What was begun in smaller chunks goes on where it stood.
    const { checkpoints, memory } = this.#shared;
    const mayBeBegun = size > smallestChunk;
    if (mayBeBegun && (await isBegun(checkpoints, this.#target.name, digest, this.#work.stop))) return false;
    return memory.hasRoomFor(size, this.#yields);
  }

  get #yields(): boolean {
    return this.#work.yields ?? false;
  }

  #chunkSizes(minChunk: number): ChunkSizes {
    const { memory, slots } = this.#shared;
    return memory.sizesFor(slots.used, { maxChunk: this.#target.maxChunk, minChunk }, this.#yields);
  }

  /** A blob of one chunk: nothing is sent before it is whole and verified. */
  async #uploadWhole(opened: UploadSession | undefined): Promise<void> {
    const chunk = await this.#readWhole().catch(async (error) => {
      if (opened !== undefined) await cancelQuietly(opened);
      throw error;
    });
    try {
      await this.#again(opened, (session) =>
        session.commit(this.#blob.digest, chunk.pieces(), unstopped(this.#work)),
      );
      this.#sent(this.#blob.size);
      this.#copied();
    } finally {
      chunk.release();
    }
  }

  async #readWhole(): Promise<Chunk> {
    const chunk = await this.#shared.memory.takeWhole(this.#blob.size, this.#work.stop, this.#yields);
    try {
      await this.#verifiedOnce(async () => {
        chunk.clear();
        for await (const piece of this.#read(0, true)) await chunk.fill(piece);
      });
      return chunk;
    } catch (error) {
      chunk.release();
      throw error;
    }
  }

  /** A digest that does not match is read once more from zero: the first reading may have been damaged on its way. */
  async #verifiedOnce(read: () => Promise<void>): Promise<void> {
    try {
      await read();
    } catch (error) {
      if (!(error instanceof HubferryError) || error.code !== 'ERR_DIGEST_MISMATCH') throw error;
      await read();
    }
  }

  /** Does it again, each time in a session of its own, while the target loses them; once where the bytes were damaged on their way. */
  async #again(
    opened: UploadSession | undefined,
    send: (session: UploadSession) => Promise<void>,
  ): Promise<void> {
    let session = opened;
    for (let attempt = 0, mismatches = 0; ; attempt += 1) {
      session ??= await this.#target.startUpload({ signal: this.#work.stop });
      try {
        return await send(session);
      } catch (error) {
        // The answer to a closing PUT can be lost although the blob is there.
        if (isLostUpload(error) && (await exists(this.#blob, this.#target, this.#work))) return;
        await cancelQuietly(session);
        session = undefined;
        const isLost = isLostUpload(error) && attempt < this.#shared.limits.retries;
        const isDamaged = isMismatch(error) && mismatches++ === 0;
        if (!isLost && !isDamaged) throw error;
        await pause(backoff(attempt), this.#work.stop);
      }
    }
  }

  /** A blob of several chunks: owned between processes by the lease on its checkpoint. */
  async #uploadOwned(opened: UploadSession | undefined): Promise<'copied' | 'existing'> {
    for (let session = opened; ; session = undefined) {
      const owned = await this.#ownOr(() => session && cancelQuietly(session));
      if (owned === 'existing') return 'existing';
      try {
        await new ChunkedUpload(this.#context(), owned).run(session);
        await owned.discard();
        return 'copied';
      } catch (error) {
        await owned.release();
        const cause: unknown = owned.lost.aborted ? owned.lost.reason : error;
        this.#work.stop.throwIfAborted();
        // Whoever stood still for so long that another one took over waits for that one, where there is time.
        const waits =
          codeOf(cause) === 'ERR_LEASE_LOST' && this.#work.patienceMs === Number.POSITIVE_INFINITY;
        if (!waits) throw cause;
      }
    }
  }

  /** @param cancel a session that was opened for nothing */
  async #ownOr(cancel: () => unknown): Promise<OwnedCheckpoint | 'existing'> {
    try {
      const owned = await this.#own();
      if (owned === 'existing') await cancel();
      return owned;
    } catch (error) {
      await cancel();
      throw error;
    }
  }

  async #own(): Promise<OwnedCheckpoint | 'existing'> {
    const { checkpoints, waiting } = this.#shared;
    // Never under the patience: a lease whose answer nobody waits for would be held for nothing.
    const take = () =>
      OwnedCheckpoint.take(checkpoints, this.#target.name, this.#blob.digest, this.#work.stop);
    const free = await take();
    if (free !== undefined) return this.#isBrief() ? free : this.#unlessBrought(free);
    using place = waiting.enter(this.#blob, this.#work);
    for (;;) {
      await pause(1000, place.signal);
      if (await exists(this.#blob, this.#target, this.#work)) return 'existing';
      const owned = await take();
      if (owned !== undefined) return this.#unlessBrought(owned);
    }
  }

  #isBrief(): boolean {
    return Date.now() - this.#begunAt < brieflyMs;
  }

  /** Another process may have come to its end before this one became the owner. */
  async #unlessBrought(owned: OwnedCheckpoint): Promise<OwnedCheckpoint | 'existing'> {
    try {
      if (!(await exists(this.#blob, this.#target, this.#work))) return owned;
      const begun = await owned.load(this.#work.stop);
      if (begun !== undefined) {
        const { location, offset, minChunk } = begun;
        await cancelQuietly(this.#target.resumeUpload(location, offset, minChunk));
      }
    } catch (error) {
      await owned.release();
      throw error;
    }
    await owned.discard();
    return 'existing';
  }

  #copied(): void {
    this.#work.tally.blobsCopied += 1;
  }

  /** Counted as they go: what a stopped copy has sent is not sent again. */
  #sent(bytes: number): void {
    countSent(this.#work, bytes);
  }

  #context(): UploadContext {
    return {
      blob: this.#blob,
      target: this.#target,
      work: this.#work,
      retries: this.#shared.limits.retries,
      memoryInAll: this.#shared.memory.totalFor(this.#yields),
      firstChunk: (minChunk) =>
        this.#shared.memory.takeFirst(this.#chunkSizes(minChunk), minChunk, this.#work.stop, this.#yields),
      nextSizes: (minChunk) => this.#chunkSizes(minChunk),
      read: (offset, verify) => this.#read(offset, verify),
      progress: (offset) => this.#work.onEvent({ type: 'blobProgress', id: this.#id, offset }),
      sent: (bytes) => this.#sent(bytes),
      kept: (bytes) => this.#work.tally.noteKept(presentKey(this.#target, this.#blob.digest), bytes),
      copied: () => this.#copied(),
    };
  }

  #read(offset: number, verify: boolean): AsyncGenerator<Uint8Array> {
    return readFrom(this.#source, this.#blob, offset, verify, this.#work.stop, this.#shared.limits);
  }
}
