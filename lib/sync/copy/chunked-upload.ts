/** Sends a blob in several requests, each of which is acknowledged and saved: where it breaks, it goes on. */
import { codeOf, HubferryError } from '../../errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { SendOptions, Target, UploadSession } from '../../oci/roles.ts';
import { backoff, isRetryable } from '../attempts.ts';
import { pause } from '../waiting.ts';
import type { OwnedCheckpoint } from './checkpoint.ts';
import type { Chunk } from './chunk.ts';
import type { ChunkSizes } from './limits.ts';
import { cancelQuietly, exists, isLostUpload, isMismatch } from './uploads.ts';
import { unstopped, type Work } from './work.ts';

export interface UploadContext {
  readonly blob: Descriptor;
  readonly target: Target;
  readonly work: Work;
  /** Attempts after the first that may bring no new byte. */
  readonly retries: number;
  /** Bytes that all chunks together may hold. */
  readonly memoryInAll: number;
  firstChunk(minChunk: number): Promise<Chunk>;
  nextSizes(minChunk: number): ChunkSizes;
  read(offset: number, verify: boolean): AsyncGenerator<Uint8Array>;
  progress(offset: number): void;
  sent(bytes: number): void;
  kept(bytes: number): void;
  copied(): void;
}

/** Fills a chunk while the one before it is sent; saves each acknowledged one while the next is sent. */
export class ChunkedUpload {
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
  /** What the target has answered last that is no success: its session may be of no use, which a source's failure does not show. */
  #refusal: unknown;
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
      this.#context.kept(session.offset);
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
    const isRefused = error === this.#refusal && !(error instanceof HubferryError && error.retryable);
    return isRefused && offset === this.#begunAt;
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
      // The registry may still have what it cannot tell about.
      await cancelQuietly(resumed);
    }
    return opened ?? target.startUpload({ signal: work.stop });
  }

  /** What a registry cannot tell about, and not only for a moment, has ended: the next session may do better. */
  async #isKnown(session: UploadSession): Promise<boolean> {
    const { retries, work } = this.#context;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#refresh(session);
      } catch (error) {
        this.#throwIfStopped();
        if (codeOf(error) === 'ERR_RATE_LIMITED') throw error;
        if (!isRetryable(error) || attempt > retries) return false;
        await pause(backoff(attempt), work.stop);
      }
    }
  }

  /** Whether the registry knows it; what has more than the whole blob is none of that blob's. */
  async #refresh(session: UploadSession): Promise<boolean> {
    const { blob, work } = this.#context;
    const isKnown = await this.#atTarget(session.refresh({ signal: work.stop }));
    return isKnown && session.offset <= blob.size;
  }

  async #atTarget<T>(request: Promise<T>): Promise<T> {
    try {
      return await request;
    } catch (error) {
      this.#refusal = error;
      throw error;
    }
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
    if (this.#fruitless > this.#context.retries) throw error;
    await pause(backoff(this.#fruitless), this.#context.work.stop);
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
    return offset > 0 && offset === this.#begunAt && this.#fruitless === this.#context.retries;
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
    let chunk = await this.#context.firstChunk(session.minChunk);
    try {
      // A resumed blob cannot be hashed here any more: the target verifies it when the session is closed.
      for await (const piece of this.#context.read(session.offset, fromZero)) {
        // A full chunk is sent only when more follows: the last one is held back until size and digest are known to match.
        for (let rest = await chunk.fill(piece); rest.length > 0; rest = await chunk.fill(rest)) {
          await sending;
          const full = chunk;
          chunk = full.followedBy(this.#context.nextSizes(session.minChunk));
          sending = this.#send(session, full);
          sending.catch(() => {});
        }
      }
      await sending;
      await this.#owned.saved();
      this.#closing = true;
      await this.#atTarget(session.commit(blob.digest, chunk.pieces(), this.#unstopped));
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
    // A session with a single byte cannot be told from a new one.
    const isEnough = () => session.offset + chunk.length > 1 && chunk.length >= session.minChunk;
    const signal = AbortSignal.any([this.#owned.lost, work.end]);
    const send = async () => {
      await sending;
      if (chunk.length > 0 && isEnough() && !isRest()) await this.#send(session, chunk, { signal });
    };
    await send().catch(() => undefined);
  }

  async #send(session: UploadSession, chunk: Chunk, options = this.#unstopped): Promise<void> {
    const { blob, target } = this.#context;
    try {
      await this.#atTarget(session.append(chunk.pieces(), { ...options, owner: chunk }));
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
