/** Moves of one target tag are serialised, between processes too. */
import { createHash } from 'node:crypto';
import { HubferryError } from '../../errors.ts';
import type { DocumentStore, Lease } from '../../storage/ports.ts';
import { clockSkewMs } from '../shared-time.ts';
import { pause } from '../waiting.ts';

const leaseSeconds = 30;
const renewEveryMs = 10_000;
const retryMs = 250;

/** What a holder learns about the moves before its own. */
export interface Hold {
  /** Whether anybody may have moved this tag since a time (milliseconds since the epoch), by anyone's clock. */
  movedSince(time: number): boolean;
  /**
   * Notes a move that is about to be made, for those who come after: nobody may be left to do so when it was made.
   * @throws ERR_LEASE_LOST where somebody else may move the tag by now
   */
  moves(): Promise<void>;
}

export class TagLocks {
  readonly #store: DocumentStore;
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  /** Does something while nobody else moves this tag (`registry/repository:tag`). */
  async hold<T>(tag: string, signal: AbortSignal, work: (hold: Hold) => Promise<T>): Promise<T> {
    const before = this.#turns.get(tag) ?? Promise.resolve();
    const turn = before.catch(() => {}).then(() => this.#alone(tag, signal, work));
    const settled = turn.catch(() => {});
    this.#turns.set(tag, settled);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(tag) === settled) this.#turns.delete(tag);
    }
  }

  async #alone<T>(tag: string, signal: AbortSignal, work: (hold: Hold) => Promise<T>): Promise<T> {
    const key = `locks/${createHash('sha256').update(tag).digest('hex')}`;
    const lease = await this.#take(key, signal);
    // Whoever has lost it learns that when the tag is to move.
    const renewal = setInterval(() => void lease.renew().catch(() => {}), renewEveryMs).unref();
    try {
      const document = await this.#store.get(key, { signal });
      const movedAt = Number(Buffer.from(document?.bytes ?? []).toString());
      return await work({
        movedSince: (time) => movedAt > 0 && movedAt + clockSkewMs >= time,
        moves: async () => {
          const noted = await this.#store.put(key, Buffer.from(`${Date.now()}`), { lease });
          if (noted === undefined) throw lostError(tag);
        },
      });
    } finally {
      clearInterval(renewal);
      // What was done is done: a lease that cannot be given back ends by itself.
      await lease.release().catch(() => {});
    }
  }

  async #take(key: string, signal: AbortSignal): Promise<Lease> {
    for (;;) {
      const lease = await this.#store.lease(key, leaseSeconds, { signal });
      if (lease !== undefined) return lease;
      await pause(retryMs * (0.5 + Math.random()), signal);
    }
  }
}

function lostError(tag: string): HubferryError {
  return new HubferryError('ERR_LEASE_LOST', `Another process moves ${tag} by now`, { retryable: true });
}
