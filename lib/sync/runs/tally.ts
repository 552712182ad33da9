import type { Allowance, Observer } from '../../oci/roles.ts';
import { BlobTimes } from './blob-times.ts';
import type { TransferTotals } from './report.ts';

/** Counts what one piece of work costs, and hears of the source's allowance. */
export class Tally {
  bytesCopied = 0;
  blobsCopied = 0;
  blobsMounted = 0;
  pulls = 0;
  readonly requests = { source: 0, target: 0 };
  /** Distinct blobs found at the target, by repository and digest. */
  readonly existing = new Set<string>();
  /** Bytes that the target had of each blob when it was looked for: of those found, and of those gone on with. */
  readonly #kept = new Map<string, number>();
  /** Those that were brought there on this tally: finding them later is no find. */
  readonly #brought = new Set<string>();
  readonly blobs = new BlobTimes();
  /** As a source told it last. */
  allowance: Allowance | undefined;

  readonly source: Observer = {
    onRequest: () => {
      this.requests.source += 1;
    },
    onPull: () => {
      this.pulls += 1;
    },
    onAllowance: (allowance) => {
      this.allowance = allowance;
    },
  };

  readonly target: Observer = {
    onRequest: () => {
      this.requests.target += 1;
    },
  };

  /** A blob is at the target by this work's own doing. */
  noteBrought(blob: string): void {
    this.#brought.add(blob);
  }

  /** A blob of so many bytes was at the target already. */
  noteExisting(blob: string, size: number): void {
    if (this.#brought.has(blob) || this.existing.has(blob)) return;
    this.existing.add(blob);
    this.noteKept(blob, size);
  }

  /** The target had so much of a blob. */
  noteKept(blob: string, bytes: number): void {
    this.#kept.set(blob, Math.max(bytes, this.#kept.get(blob) ?? 0));
  }

  /** Bytes that the target had of all these blobs. */
  get kept(): number {
    return this.#kept.values().reduce((sum, bytes) => sum + bytes, 0);
  }

  totals(): TransferTotals {
    return {
      bytesCopied: this.bytesCopied,
      blobsCopied: this.blobsCopied,
      blobsMounted: this.blobsMounted,
      blobsExisting: this.existing.size,
      requests: { ...this.requests },
      pulls: this.pulls,
    };
  }
}

export function noTransfer(): TransferTotals {
  return new Tally().totals();
}

/** Adds the second to the first. */
export function addTransfer(sum: TransferTotals, part: TransferTotals): void {
  sum.bytesCopied += part.bytesCopied;
  sum.blobsCopied += part.blobsCopied;
  sum.blobsMounted += part.blobsMounted;
  sum.blobsExisting += part.blobsExisting;
  sum.requests.source += part.requests.source;
  sum.requests.target += part.requests.target;
  sum.pulls += part.pulls;
}
