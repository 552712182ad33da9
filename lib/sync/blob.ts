/**
 * Moves blobs: exists, mount, upload. The bytes go through once, in chunks; where they break, they go on.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { codeOf, HubferryError } from '../errors.ts';
import type { Descriptor, Digest } from '../oci/descriptor.ts';
import type { SendOptions, Source, Target, UploadSession } from '../oci/roles.ts';
import type { DocumentStore } from '../storage/ports.ts';
import { backoff, fruitlessAttempts, isRetryable } from './attempts.ts';
import { OwnedCheckpoint } from './checkpoint.ts';
import { type Chunk, ChunkMemory } from './chunk.ts';
import { SharedBudget, SingleFlight } from './concurrency.ts';
import { readFrom } from './download.ts';
import type { OnEvent } from './events.ts';
import { chunkSizeFor, type Limits } from './limits.ts';
import type { MountCandidates } from './mount.ts';
import type { Claims } from './rivals.ts';
import type { Tally } from './tally.ts';

/** One piece of work on behalf of one request: where it counts, whom it tells, when it has to stop. */
export interface Work {
  /** Aborted with a `StoppedError`: finish the chunk under way, save, and throw the reason. */
  readonly stop: AbortSignal;
  /** Follows `stop` after a while: what is still on its way to the target is broken off. */
  readonly end: AbortSignal;
  readonly tally: Tally;
  /** What is sent for one request: a tally may be shared by many. */
  readonly sent?: { bytes: number };
  readonly onEvent: OnEvent;
  /**
   * How long to wait for another request that is sending the same blob, in milliseconds, before giving this one back.
   * The command line waits as long as it takes.
   */
  readonly patienceMs: number;
  /** Whether it leaves places and memory to those who do not: a copy, so that no push waits behind it. @default false */
  readonly yields?: boolean;
  /** Whether an attempt before this one came to no end: then also a small blob goes in parts where time is short for all of it. */
  readonly again?: boolean;
  /** Asked before each manifest that is read at a billing source. @throws ERR_RATE_LIMITED */
  readonly admitPull: () => Promise<void>;
  /** Told when the source refused one; the error to throw, with the time from which on all may try again. */
  readonly pullRefused: (error: HubferryError) => Promise<HubferryError>;
  /** Asked before a tag moves. @throws StoppedError where nobody wants it any more */
  readonly stillWanted?: (() => Promise<void>) | undefined;
  /** What other rules want of the target's tags now. Absent where a plan has just asked. */
  readonly claims?: (() => Promise<Claims>) | undefined;
}

/** Counts payload that the target has taken. */
export function countSent({ tally, sent }: Work, bytes: number): void {
  tally.bytesCopied += bytes;
  if (sent !== undefined) sent.bytes += bytes;
}

/** For what costs something when it is interrupted, such as an upload session: it goes on for a while, but begins nothing any more. */
export function unstopped({ end, stop }: Pick<Work, 'end' | 'stop'>): SendOptions {
  return { signal: end, whileUnsent: stop };
}

/** Another request is sending the same blob: this one is given back and comes again. */
export class BusyError extends HubferryError {
  override readonly name = 'BusyError';
  /** Of the blob, in bytes. */
  readonly size: number;

  constructor({ digest, size }: Descriptor) {
    super('ERR_INTERRUPTED', `Another request is sending ${digest}`, { retryable: true });
    this.size = size;
  }
}

/** What is no larger comes in time from whatever source is not given up. */
const smallestPart = 64 * 1024;
const presentMemory = 100_000;
/** A registry drops a session that could not be cancelled in so many milliseconds by itself. */
const cancelMs = 3000;
/** So many requests of a process may wait for what others are sending: the places of all others are for those with work to do. */
const mostWaiting = 3;

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
    const { blobs, chunkMemory, keptForPushes } = options.limits;
    this.#slots = new SharedBudget(blobs, keptForPushes.blobs);
    this.#memory = new ChunkMemory(chunkMemory, keptForPushes.chunkMemory);
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
    const fly = (signal: AbortSignal) =>
      this.#flights.run(flight, signal, () => this.#transfer(blob, source, target, work));
    if (!this.#flights.has(flight) || !this.#isLarge(blob, target, work)) return fly(work.stop);
    using place = this.#waiting.enter(blob, work);
    await fly(place.signal);
  }

  /** What one chunk holds is soon there. */
  #isLarge({ size }: Descriptor, { maxChunk }: Target, { yields = false }: Work): boolean {
    return size > chunkSizeFor(this.#slots.used, this.#memory.totalFor(yields), { maxChunk, minChunk: 0 });
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
    const release = await this.#slots.acquire(1, work.yields ?? false, work.stop);
    try {
      if (await exists(blob, target, work)) return this.#found(blob, target, work);
      const shared = { ...this.#options, memory: this.#memory, slots: this.#slots, waiting: this.#waiting };
      const transfer = new Transfer(blob, source, target, work, shared);
      const how = await transfer.run();
      if (how === 'existing') return this.#found(blob, target, work);
      work.tally.noteBrought(presentKey(target, blob.digest));
      this.notePresent(target, blob);
      await this.#options.candidates.note(target.name, blob);
    } finally {
      release();
    }
  }

  #found(blob: Descriptor, target: Target, work: Work): void {
    work.tally.noteExisting(presentKey(target, blob.digest), blob.size);
    this.notePresent(target, blob);
  }
}

/** Those who wait for what another request is sending. */
class Waiting {
  readonly #most: number;
  #count = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** A place to wait in, until it is disposed of; its signal tells when patience has ended, or the work. @throws BusyError where there is none */
  enter(blob: Descriptor, { stop, patienceMs }: Work): Disposable & { readonly signal: AbortSignal } {
    if (patienceMs === Number.POSITIVE_INFINITY) return { signal: stop, [Symbol.dispose]() {} };
    if (this.#count >= this.#most) throw new BusyError(blob);
    this.#count += 1;
    const limit = new AbortController();
    const end = () => limit.abort(stop.reason);
    stop.addEventListener('abort', end);
    const timer = setTimeout(() => limit.abort(new BusyError(blob)), patienceMs);
    const leave = () => {
      this.#count -= 1;
      clearTimeout(timer);
      stop.removeEventListener('abort', end);
    };
    return { signal: limit.signal, [Symbol.dispose]: leave };
  }
}

function presentKey(target: Target, digest: Digest): string {
  return `${target.name}@${digest}`;
}

/** Existence is status and size: the algorithm of a digest header proves nothing. */
async function exists(blob: Descriptor, target: Target, work: Work): Promise<boolean> {
  const size = await target.statBlob(blob.digest, { signal: work.stop });
  if (size !== undefined && size !== blob.size) {
    throw new HubferryError(
      'ERR_SIZE_MISMATCH',
      `${blob.digest} has ${size} bytes at ${target.name}, but the source's manifest says ${blob.size}`,
    );
  }
  return size !== undefined;
}

/** What the transfers of a process share. */
interface Shared extends BlobCopierOptions {
  readonly slots: SharedBudget;
  readonly memory: ChunkMemory;
  readonly waiting: Waiting;
}

let transfers = 0;

/** One blob on its way to one repository. */
class Transfer {
  readonly #blob: Descriptor;
  readonly #source: Source;
  readonly #target: Target;
  readonly #work: Work;
  readonly #shared: Shared;
  readonly #id: string;

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

  /** One try with the nearest repository that has the blob; a registry that declines opens a session instead. */
  async #mount(): Promise<true | UploadSession | false> {
    const { candidates } = this.#shared;
    const from = await candidates.nearest(this.#target.name, this.#blob, this.#source.name);
    if (from === undefined) return false;
    const mounted = await this.#target.mountBlob(this.#blob.digest, from, { signal: this.#work.stop });
    if (mounted !== true) return mounted;
    // Only now its size shows, and whether it is there at all.
    if (!(await exists(this.#blob, this.#target, this.#work))) return false;
    this.#work.tally.blobsMounted += 1;
    return true;
  }

  async #upload(session: UploadSession | undefined): Promise<'copied' | 'existing'> {
    if (this.#blob.size <= (this.#work.again ? smallestPart : this.#chunkSize(0))) {
      await this.#uploadWhole(session);
      return 'copied';
    }
    return this.#uploadOwned(session);
  }

  get #memoryInAll(): number {
    return this.#shared.memory.totalFor(this.#work.yields ?? false);
  }

  #takeChunk(size: number): Promise<Chunk> {
    return this.#shared.memory.take(size, this.#work.stop, this.#work.yields);
  }

  #chunkSize(minChunk: number): number {
    return chunkSizeFor(this.#shared.slots.used, this.#memoryInAll, {
      maxChunk: this.#target.maxChunk,
      minChunk,
    });
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
    const chunk = await this.#takeChunk(this.#blob.size);
    try {
      await this.#verifiedOnce(async () => {
        chunk.clear();
        for await (const piece of this.#read(0, true)) chunk.add(piece);
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
        const again = isLostUpload(error) || (isMismatch(error) && mismatches++ === 0);
        if (!again || attempt + 1 >= fruitlessAttempts) throw error;
        await delay(backoff(attempt), undefined, { signal: this.#work.stop });
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
    if (free !== undefined) return free;
    using place = waiting.enter(this.#blob, this.#work);
    for (;;) {
      await delay(1000, undefined, place).catch(() => place.signal.throwIfAborted());
      if (await exists(this.#blob, this.#target, this.#work)) return 'existing';
      const owned = await take();
      if (owned !== undefined) return owned;
    }
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
      memoryInAll: this.#memoryInAll,
      nextChunk: (minChunk) => this.#takeChunk(this.#chunkSize(minChunk)),
      read: (offset, verify) => this.#read(offset, verify),
      progress: (offset) => this.#work.onEvent({ type: 'blobProgress', id: this.#id, offset }),
      sent: (bytes) => this.#sent(bytes),
      copied: () => this.#copied(),
    };
  }

  #read(offset: number, verify: boolean): AsyncGenerator<Uint8Array> {
    const { slowest } = this.#shared.limits;
    return readFrom(this.#source, this.#blob, offset, verify, this.#work.stop, slowest);
  }
}

interface UploadContext {
  readonly blob: Descriptor;
  readonly target: Target;
  readonly work: Work;
  /** Bytes that all chunks together may hold. */
  readonly memoryInAll: number;
  nextChunk(minChunk: number): Promise<Chunk>;
  read(offset: number, verify: boolean): AsyncGenerator<Uint8Array>;
  progress(offset: number): void;
  sent(bytes: number): void;
  copied(): void;
}

/** Fills a chunk while the one before it is sent; saves each acknowledged one while the next is sent. */
class ChunkedUpload {
  readonly #context: UploadContext;
  readonly #owned: OwnedCheckpoint;
  readonly #unstopped: SendOptions;
  /** Where it began, and how far any session ever came. */
  #begunAt = 0;
  #farthest = 0;
  /** How much of the session under way is counted as sent, and whether it was about to be closed. */
  #counted = 0;
  #closing = false;
  /** What took nothing more, until the session in its place takes something: its checkpoint stays as long. */
  #stuck: UploadSession | undefined;
  #fruitless = 0;
  #mismatches = 0;

  constructor(context: UploadContext, owned: OwnedCheckpoint) {
    this.#context = context;
    this.#owned = owned;
    const { end, stop } = context.work;
    this.#unstopped = unstopped({ end: AbortSignal.any([owned.lost, end]), stop });
  }

  async run(opened: UploadSession | undefined): Promise<void> {
    let session = opened;
    try {
      session = await this.#begin(opened);
      this.#begunAt = session.offset;
      this.#farthest = session.offset;
      this.#counted = session.offset;
      this.#context.work.tally.kept += session.offset;
      while (session !== undefined) session = await this.#sendRest(session);
      await this.#replaced();
    } catch (error) {
      if (session !== undefined && this.#isUseless(session, error)) await this.#giveUp(session);
      throw error;
    }
    this.#context.copied();
  }

  /** @returns the session to go on with. Undefined: the blob is there */
  async #sendRest(session: UploadSession): Promise<UploadSession | undefined> {
    try {
      this.#closing = false;
      this.#count(session.offset);
      await this.#pump(session);
      return undefined;
    } catch (error) {
      this.#throwIfStopped();
      if (isMismatch(error)) return this.#afterMismatch(session, error);
      if (isLostUpload(error)) return this.#afterLoss(session, error);
      throw error;
    }
  }

  /** Once more from zero: it may have been damaged on its way. */
  async #afterMismatch(session: UploadSession, error: unknown): Promise<UploadSession> {
    this.#mismatches += 1;
    if (this.#mismatches > 1) throw error;
    await cancelQuietly(session);
    const { target, work } = this.#context;
    return target.startUpload({ signal: work.stop });
  }

  /** What the target has of the session now: answers may have been lost. What it has lost travels, and counts, again. */
  #count(offset: number): void {
    if (offset > this.#counted) this.#context.sent(offset - this.#counted);
    this.#counted = offset;
    this.#context.progress(offset);
  }

  #throwIfStopped(): void {
    this.#context.work.stop.throwIfAborted();
    this.#owned.lost.throwIfAborted();
  }

  /** Whether nobody gains by going on there. */
  #isUseless({ offset }: UploadSession, error: unknown): boolean {
    // It is somebody else's now.
    if (this.#owned.lost.aborted) return false;
    if (offset === 0 || codeOf(error) === 'ERR_SIZE_MISMATCH' || isMismatch(error)) return true;
    return offset === this.#begunAt && !(error instanceof HubferryError && error.retryable);
  }

  async #giveUp(session: UploadSession): Promise<void> {
    await cancelQuietly(session);
    // A registry that does not cancel it would tell of it again, each time. The checkpoint is no empty session's.
    if (session.offset > 0) await this.#owned.discard().catch(() => undefined);
  }

  /** The session that was stuck is of no use any more. */
  async #replaced(): Promise<void> {
    if (this.#stuck !== undefined) await cancelQuietly(this.#stuck);
    this.#stuck = undefined;
  }

  /** The checkpoint's session where the registry still knows it, else a new one. */
  async #begin(opened: UploadSession | undefined): Promise<UploadSession> {
    const { target, work } = this.#context;
    const checkpoint = await this.#owned.load(work.stop);
    if (checkpoint !== undefined) {
      const { location, offset, minChunk } = checkpoint;
      const resumed = target.resumeUpload(location, offset, minChunk);
      if (await this.#isKnown(resumed)) {
        if (opened !== undefined) await cancelQuietly(opened);
        return resumed;
      }
    }
    return opened ?? target.startUpload({ signal: work.stop });
  }

  /** What a registry cannot tell about has ended: the next session may do better. */
  async #isKnown(session: UploadSession): Promise<boolean> {
    try {
      return await this.#refresh(session);
    } catch (error) {
      this.#throwIfStopped();
      if (codeOf(error) === 'ERR_RATE_LIMITED') throw error;
      return false;
    }
  }

  /** Whether the registry knows it; what has more than the whole blob is none of that blob's. */
  async #refresh(session: UploadSession): Promise<boolean> {
    const { blob, work } = this.#context;
    return (await session.refresh({ signal: work.stop })) && session.offset <= blob.size;
  }

  /** The session to go on with, as soon as the registry tells where it stands. Undefined: the blob is there. */
  async #afterLoss(session: UploadSession, loss: unknown): Promise<UploadSession | undefined> {
    for (let error = loss; ; ) {
      await this.#countLoss(session, error);
      try {
        return await this.#stateOf(session);
      } catch (cause) {
        this.#throwIfStopped();
        if (!isRetryable(cause)) throw cause;
        error = cause;
      }
    }
  }

  /** A session that came as far as those before it has brought nothing. @throws the error after several of these in a row */
  async #countLoss({ offset }: UploadSession, error: unknown): Promise<void> {
    this.#fruitless = offset > this.#farthest ? 0 : this.#fruitless + 1;
    this.#farthest = Math.max(this.#farthest, offset);
    if (this.#fruitless >= fruitlessAttempts) throw error;
    await delay(backoff(this.#fruitless), undefined, { signal: this.#context.work.stop });
  }

  /** A chunk of unknown fate is never simply repeated: the registry is asked. */
  async #stateOf(session: UploadSession): Promise<UploadSession | undefined> {
    const { blob, target, work } = this.#context;
    const isKnown = await this.#refresh(session);
    if (isKnown && !this.#isStuck(session)) return session;
    if (await exists(blob, target, work)) {
      // Else somebody else has brought it.
      if (this.#closing) this.#count(blob.size);
      return undefined;
    }
    const { digest } = blob;
    const fields = { target: target.name, digest, offset: session.offset };
    work.onEvent({ type: 'log', level: 'warn', message: 'upload begins anew', fields });
    if (isKnown) this.#stuck = session;
    // The registry may still have what it cannot tell about.
    else await cancelQuietly(session);
    return target.startUpload({ signal: work.stop });
  }

  /** Whether only one attempt is left, and none before it has brought a byte to the session of another process. */
  #isStuck({ offset }: UploadSession): boolean {
    return offset > 0 && offset === this.#begunAt && this.#fruitless === fruitlessAttempts - 1;
  }

  /** What is left fits into the closing PUT, or into chunks that are not too small for the target. */
  #checkChunks({ minChunk, offset }: UploadSession): void {
    const { blob, memoryInAll, target } = this.#context;
    if (minChunk <= memoryInAll || blob.size - offset <= memoryInAll) return;
    const message = `${target.name} wants chunks of at least ${minChunk} bytes, but memory holds ${memoryInAll}`;
    throw new HubferryError('ERR_UNSUPPORTED', message);
  }

  async #pump(session: UploadSession): Promise<void> {
    const { blob } = this.#context;
    this.#checkChunks(session);
    const fromZero = session.offset === 0;
    let sending: Promise<void> = Promise.resolve();
    let chunk = await this.#context.nextChunk(session.minChunk);
    try {
      // A resumed blob cannot be hashed here any more: the target verifies it when the session is closed.
      for await (const piece of this.#context.read(session.offset, fromZero)) {
        // A full chunk is sent only when more follows: the last one is held back until size and digest are known to match.
        for (let at = chunk.add(piece); at < piece.length; at += chunk.add(piece.subarray(at))) {
          await sending;
          sending = this.#send(session, chunk);
          sending.catch(() => {});
          chunk = await this.#context.nextChunk(session.minChunk);
        }
      }
      await sending;
      await this.#owned.saved();
      this.#closing = true;
      await session.commit(blob.digest, chunk.pieces(), this.#unstopped);
      this.#count(blob.size);
    } catch (error) {
      if (error === this.#context.work.stop.reason) await this.#sendPart(session, chunk, sending);
      throw error;
    } finally {
      await sending.catch(() => {});
      chunk.release();
      await this.#owned.saved().catch(() => {});
    }
  }

  /** At a stop: what a slow source has given of a chunk is not asked for again. The stop counts, whatever becomes of it. */
  async #sendPart(session: UploadSession, chunk: Chunk, sending: Promise<void>): Promise<void> {
    const { blob, work } = this.#context;
    // The fate of a closing PUT is unknown, and what would be the rest is not known to be right.
    const isRest = () => this.#closing || session.offset + chunk.length >= blob.size;
    const signal = AbortSignal.any([this.#owned.lost, work.end]);
    const send = async () => {
      await sending;
      if (chunk.length > 0 && chunk.length >= session.minChunk && !isRest())
        await this.#send(session, chunk, { signal });
    };
    await send().catch(() => undefined);
  }

  async #send(session: UploadSession, chunk: Chunk, options = this.#unstopped): Promise<void> {
    const { blob, target } = this.#context;
    try {
      await session.append(chunk.pieces(), options);
    } finally {
      chunk.release();
    }
    this.#count(session.offset);
    await this.#owned.save({
      target: target.name,
      digest: blob.digest,
      size: blob.size,
      location: session.location,
      offset: session.offset,
      minChunk: session.minChunk,
      savedAt: Date.now(),
    });
    await this.#replaced();
  }
}

/** Of what only tidies up, nobody waits for success, nor for long. */
async function cancelQuietly(session: UploadSession): Promise<void> {
  await session.cancel({ signal: AbortSignal.timeout(cancelMs) }).catch(() => undefined);
}

function isLostUpload(error: unknown): boolean {
  return error instanceof HubferryError && error.code === 'ERR_UPLOAD_LOST';
}

function isMismatch(error: unknown): boolean {
  return error instanceof HubferryError && error.code === 'ERR_DIGEST_MISMATCH';
}
