/** Requests that wait for a later time. They wait in storage, never in a queue: the scaler counts invisible messages too. */
import type { DocumentStore } from '../storage/ports.ts';
import { type CopyRequest, copyRequestSchema } from './request.ts';

/** Pushes go first. */
export type Lane = 'push' | 'copy';

export interface ParkedRequest {
  readonly key: string;
  readonly lane: Lane;
  readonly request: CopyRequest;
}

export class ParkingLot {
  readonly #store: DocumentStore;

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  async park(request: CopyRequest, lane: Lane, until: number): Promise<void> {
    const key = `parked/${new Date(until).toISOString()}/${lane}/${request.id}`;
    await this.#store.put(key, Buffer.from(JSON.stringify(request)));
  }

  /** Those whose time has come, pushes first. */
  async due(now: number, signal: AbortSignal): Promise<ParkedRequest[]> {
    const due: ParkedRequest[] = [];
    const limit = `parked/${new Date(now).toISOString()}`;
    for await (const { key } of this.#store.list('parked/', { signal })) {
      if (key > limit) break;
      const document = await this.#store.get(key, { signal });
      const lane = key.split('/')[2];
      if (document === undefined || (lane !== 'push' && lane !== 'copy')) continue;
      due.push({
        key,
        lane,
        request: copyRequestSchema.parse(JSON.parse(Buffer.from(document.bytes).toString())),
      });
    }
    return due.sort((a, b) => (a.lane === b.lane ? 0 : a.lane === 'push' ? -1 : 1));
  }

  async remove(key: string): Promise<void> {
    await this.#store.delete(key);
  }
}
