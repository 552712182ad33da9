/** Which blobs took long. */
import type { SyncEvent } from './events.ts';
import type { BlobTime } from './report.ts';

const most = 10;

/** Listens to one piece of work. */
export class BlobTimes {
  readonly #started = new Map<string, Omit<BlobTime, 'durationMs'> & { readonly at: number }>();
  readonly #times: BlobTime[] = [];
  #firstAt: number | undefined;

  note(event: SyncEvent): void {
    if (event.type === 'blobStarted') {
      const { id, target, digest, size } = event;
      this.#firstAt ??= Date.now();
      this.#started.set(id, { target, digest, size, at: Date.now() });
    } else if (event.type === 'blobEnded') {
      const started = this.#started.get(event.id);
      this.#started.delete(event.id);
      if (started === undefined || event.how !== 'copied') return;
      const { at, ...blob } = started;
      this.#times.push({ ...blob, durationMs: Date.now() - at });
    }
  }

  /** When the first one began, in milliseconds since the epoch: what came before was waiting for a place. */
  get firstAt(): number | undefined {
    return this.#firstAt;
  }

  get longest(): BlobTime[] {
    return longestOf(this.#times);
  }
}

export function longestOf(times: readonly BlobTime[]): BlobTime[] {
  return times.toSorted((a, b) => b.durationMs - a.durationMs).slice(0, most);
}
