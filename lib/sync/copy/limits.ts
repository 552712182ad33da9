/**
 * The bounds of one process, in one place.
 *
 * An instance of 2 GB (and of 512 MB) runs the Functions host (about 150 MB), Node with this program (about 90 MiB)
 * and what is in flight. host.json lets at most batchSize + newBatchThreshold = 8 requests of each of the three queues
 * run at once; all share these budgets:
 *
 *   chunks in memory   88 MiB   each transfer has one chunk of at most 32 MiB, and 2 MiB or more for the beginning of the
 *                               next, which grows into what has left of the first (allotment.ts); it holds what it has
 *                               read, in blocks, and leaves 2 MiB to each that may begin
 *   blobs in flight    10       so a chunk is 88 MiB / 10 - 2 MiB = 6 MiB where all are under way; copies of the function
 *                               app leave two of them, and 8 MiB, to pushes
 *   read from sockets           some blocks of 1 MiB for each blob in flight; chunks of 4 MiB and more hold those that they
 *                               were read into (chunk.ts), as many as they have mebibytes
 *   manifests          16 MiB   remembered (pulled.ts); those in hand are some kilobytes each, and 4 MiB at the most
 *   sockets            2 × 10 + 12 = 32 a host and side (clients.ts), 64 KiB of kernel and stream buffers each
 *
 * Together about 240 MiB in this process (measured with 10 blobs of 256 MiB in flight), whatever the size of blobs;
 * `npm run bench -- --only memory` measures it. Names and digests of tags come on top: 100,000 on both sides are about
 * 90 MiB. So 512 MB hold the host's 150, these 260 (with remembered manifests) and 100 for tags; only a source all of
 * whose manifests are of megabytes, with every request at work on an index of them, needs the 2 GB.
 */
import { blockBytes } from '../../oci/memory.ts';

const MiB = 1024 * 1024;

export interface Limits {
  /** Blobs in flight at once. */
  readonly blobs: number;
  /** Bytes of chunks held in memory, all transfers together. */
  readonly chunkMemory: number;
  /** What of these two only pushes get, so that none waits behind copies. */
  readonly keptForPushes: { readonly blobs: number; readonly chunkMemory: number };
  /** Tags worked on at once by one command line run. */
  readonly tags: number;
  /** Children of one index worked on at once. */
  readonly children: number;
  /** HEADs in flight while both sides of a rule are compared. */
  readonly lookups: number;
  /** Attempts after the first at a pull that is refused for a moment, and at a blob that brings no new byte. */
  readonly retries: number;
  /** A blob that brings fewer bytes than these in so many milliseconds for which its reader waits holds others up. */
  readonly slowest: { readonly bytes: number; readonly ms: number };
}

export const defaultLimits: Limits = {
  blobs: 10,
  chunkMemory: 88 * MiB,
  keptForPushes: { blobs: 2, chunkMemory: 8 * MiB },
  tags: 10,
  children: 4,
  lookups: 16,
  retries: 3,
  slowest: { bytes: 120 * 1024, ms: 120_000 },
};

/** Of a blob of 64 MiB as much is in memory at once as of any larger one. */
const largestShare = 40 * MiB;
const largestChunk = 32 * MiB;
/** What goes in parts for want of memory alone goes in no smaller ones. */
export const smallestChunk = blockBytes;
/** With so much more than one chunk the next one is being filled before anything of it has left. */
const leastBeside = 2 * MiB;
/** Chunks of a single block are many requests. */
const leastForBeginner = 2 * MiB;

/** What memory allows one transfer, in bytes. */
export interface ChunkSizes {
  /** Of the next chunk. */
  readonly chunk: number;
  /** Of that one and of the beginning of the one after it, which grows into what has left of it. */
  readonly share: number;
}

/**
 * The most that one of so many transfers uses of the memory: an even share, with some left for each place where another one
 * may begin, within what the target takes.
 */
export function chunkSizesFor(
  transfers: number,
  places: number,
  chunkMemory: number,
  target: { maxChunk: number | undefined; minChunk: number },
): ChunkSizes {
  const left = chunkMemory - keptForBeginners(places - transfers, chunkMemory);
  const even = Math.floor(left / Math.max(1, transfers));
  const most = Math.min(Math.max(even, blockBytes), largestShare, chunkMemory);
  const blocks = Math.floor((most - Math.min(leastBeside, most / 2)) / blockBytes);
  const wanted = Math.min(Math.max(blocks * blockBytes, smallestChunk), largestChunk, chunkMemory);
  const chunk = Math.max(Math.min(wanted, target.maxChunk ?? wanted), target.minChunk);
  return { chunk, share: Math.max(chunk, Math.min(most, 2 * chunk)) };
}

/** Bytes that those who are under way leave to so many who may begin, so that nobody waits for a slow one to come to its end. */
export function keptForBeginners(count: number, chunkMemory: number): number {
  return Math.min(Math.max(0, count) * leastForBeginner, Math.floor(chunkMemory / 4));
}
