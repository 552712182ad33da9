/**
 * Where an upload stood: enough for another process to go on there.
 *
 * A checkpoint is only a hint. The registry's own status is believed, never the checkpoint alone; and only the newest
 * Location is worth anything (docker-registry and ACR carry a signed state in it and refuse an older one).
 */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { HubferryError } from '../../errors.ts';
import type { Digest } from '../../oci/descriptor.ts';
import type { DocumentStore, Lease } from '../../storage/ports.ts';
import { parseStored } from '../stored.ts';

const checkpointSchema = z.object({
  target: z.string(),
  digest: z.string(),
  size: z.number(),
  location: z.string(),
  offset: z.number(),
  /** Told when the session was opened, and never again. */
  minChunk: z.number().optional(),
  savedAt: z.number(),
});
export type Checkpoint = z.infer<typeof checkpointSchema>;

/** Seconds that a transfer owns its checkpoint without renewing: Blob Storage's longest lease. */
const leaseSeconds = 60;
const renewEveryMs = 20_000;

const prefix = 'uploads/';

export function checkpointKey(target: string, digest: Digest): string {
  return `${prefix}${createHash('sha256').update(`${target}@${digest}`).digest('hex')}`;
}

/** Whether an upload is under way, or stopped where another process may go on. */
export async function isBegun(
  store: DocumentStore,
  target: string,
  digest: Digest,
  signal: AbortSignal,
): Promise<boolean> {
  return (await read(store, checkpointKey(target, digest), signal)) !== undefined;
}

/** What was saved last; what cannot be read counts as nothing. */
async function read(store: DocumentStore, key: string, signal: AbortSignal): Promise<Checkpoint | undefined> {
  const document = await store.get(key, { signal });
  return document === undefined ? undefined : parseStored(document.bytes, checkpointSchema);
}

/** The one owner of an upload, in whatever process it runs. */
export class OwnedCheckpoint {
  /** Aborted as soon as ownership can no longer be kept up: before the lease can end, nothing is sent any more. */
  readonly lost: AbortSignal;
  readonly #store: DocumentStore;
  readonly #key: string;
  readonly #lease: Lease;
  readonly #renewal: NodeJS.Timeout;
  #saving: Promise<void> = Promise.resolve();

  private constructor(store: DocumentStore, key: string, lease: Lease) {
    this.#store = store;
    this.#key = key;
    this.#lease = lease;
    const lost = new AbortController();
    this.lost = lost.signal;
    this.#renewal = setInterval(() => {
      lease.renew({ signal: AbortSignal.timeout(renewEveryMs) }).catch((cause: unknown) => {
        if (isLost(cause) || Date.now() + renewEveryMs >= lease.expiresAt) {
          lost.abort(
            new HubferryError('ERR_LEASE_LOST', 'Another process took over this upload', {
              cause,
              retryable: true,
            }),
          );
        }
      });
    }, renewEveryMs);
    this.#renewal.unref();
  }

  /** Takes ownership; `undefined` while another process has it. */
  static async take(
    store: DocumentStore,
    target: string,
    digest: Digest,
    signal: AbortSignal,
  ): Promise<OwnedCheckpoint | undefined> {
    const key = checkpointKey(target, digest);
    const lease = await store.lease(key, leaseSeconds, { signal });
    return lease === undefined ? undefined : new OwnedCheckpoint(store, key, lease);
  }

  /** What the last owner saved. */
  load(signal: AbortSignal): Promise<Checkpoint | undefined> {
    return read(this.#store, this.#key, signal);
  }

  /**
   * Saves after the save before it has ended, and returns at once: the next chunk travels meanwhile. At most one save is
   * outstanding, none is skipped, and a failed one shows in the next `saved()`.
   */
  async save(checkpoint: Checkpoint): Promise<void> {
    await this.#saving;
    this.#saving = this.#write(checkpoint);
    this.#saving.catch(() => {});
  }

  /** Resolves when what was saved last is stored. */
  saved(): Promise<void> {
    return this.#saving;
  }

  async #write(checkpoint: Checkpoint): Promise<void> {
    const written = await this.#store.put(this.#key, Buffer.from(JSON.stringify(checkpoint)), {
      lease: this.#lease,
    });
    if (written === undefined) {
      throw new HubferryError('ERR_LEASE_LOST', 'Another process took over this upload', { retryable: true });
    }
  }

  /** The upload has ended well: nothing is left of it. */
  async discard(): Promise<void> {
    await this.#saving.catch(() => {});
    try {
      await this.#store.delete(this.#key, { lease: this.#lease });
    } finally {
      clearInterval(this.#renewal);
      await this.#lease.release();
    }
  }

  /** Gives ownership back and leaves the checkpoint for whoever goes on. */
  async release(): Promise<void> {
    clearInterval(this.#renewal);
    await this.#saving.catch(() => {});
    await this.#lease.release();
  }
}

function isLost(error: unknown): boolean {
  return error instanceof HubferryError && error.code === 'ERR_LEASE_LOST';
}

/** An upload as a status may tell of it: its Location stays secret, for it is all that the upload needs. */
export type Upload = Omit<Checkpoint, 'location' | 'minChunk'>;

/** A chunk takes no longer; whoever has not saved since is not at work any more. */
const underWayMs = 5 * 60_000;
const uploadsShown = 50;

/** What is on its way now, in whatever process, in an order that stays. */
export async function uploadsUnderWay(store: DocumentStore, now: number): Promise<Upload[]> {
  const uploads: Upload[] = [];
  for await (const { key, modifiedAt } of store.list(prefix)) {
    if (now - modifiedAt > underWayMs) continue;
    const document = await store.get(key);
    const checkpoint = document === undefined ? undefined : parseStored(document.bytes, checkpointSchema);
    if (checkpoint === undefined) continue;
    const { location: _, minChunk: __, ...upload } = checkpoint;
    uploads.push(upload);
    if (uploads.length === uploadsShown) break;
  }
  return uploads;
}

/** Seconds that whoever tidies owns a checkpoint: it is not renewed. */
const tidySeconds = 15;

/** How the session of an upload that nobody came back to is ended. */
export interface UploadEnds {
  /** At the registry, where it still is one. Aborted before somebody else may own it. */
  cancel(checkpoint: Checkpoint, signal: AbortSignal): Promise<void>;
  /** Told where that failed. */
  failed(checkpoint: Checkpoint, error: unknown): void;
}

/**
 * Takes away what copies that nobody came back to have left: checkpoints that were not touched for so long that the registry
 * has dropped the session, and manifests that were kept for a restart.
 */
export async function tidyCheckpoints(
  store: DocumentStore,
  olderThanMs: number,
  ends: UploadEnds,
  signal: AbortSignal,
): Promise<number> {
  let tidied = 0;
  for await (const { key, modifiedAt } of store.list('', { signal })) {
    const before = Date.now() - olderThanMs;
    if (modifiedAt > before) continue;
    const isTidied = key.startsWith(prefix)
      ? await tidyUpload(store, key, before, ends, signal)
      : await store.delete(key, { signal });
    if (isTidied) tidied += 1;
  }
  return tidied;
}

/** A session that cannot be cancelled ends by itself. @returns false where somebody owns it, or has gone on with it since */
async function tidyUpload(
  store: DocumentStore,
  key: string,
  before: number,
  { cancel, failed }: UploadEnds,
  signal: AbortSignal,
): Promise<boolean> {
  const lease = await store.lease(key, tidySeconds, { signal });
  if (lease === undefined) return false;
  try {
    const document = await store.get(key, { signal });
    const checkpoint = document === undefined ? undefined : parseStored(document.bytes, checkpointSchema);
    if (checkpoint !== undefined && checkpoint.savedAt > before) return false;
    const inTime = AbortSignal.timeout((tidySeconds * 1000) / 2);
    if (checkpoint !== undefined)
      await cancel(checkpoint, inTime).catch((error) => failed(checkpoint, error));
    return await store.delete(key, { lease });
  } finally {
    await lease.release();
  }
}
