/** What people have asked of the app: to pause, and which runs to cancel. One document, which every message looks at. */
import * as z from 'zod';
import type { DocumentStore } from '../../storage/ports.ts';
import { parseStored } from '../stored.ts';

const wishesSchema = z.object({
  /** ISO time; absent while copying goes on. */
  pausedSince: z.string().optional(),
  /** When it went on the last time. */
  resumedAt: z.string().optional(),
  /** When each was cancelled, by run. */
  cancelled: z.record(z.string(), z.string()),
});
export type Wishes = z.infer<typeof wishesSchema>;

const key = 'control.json';
/** No message of a cancelled run comes so late, in milliseconds. */
const rememberedMs = 30 * 24 * 3600_000;

export class Control {
  readonly #state: DocumentStore;

  constructor(state: DocumentStore) {
    this.#state = state;
  }

  async wishes(): Promise<Wishes> {
    return (await this.#read()).wishes;
  }

  pause(): Promise<void> {
    return this.#change((wishes) => ({ ...wishes, pausedSince: wishes.pausedSince ?? now() }));
  }

  resume(): Promise<void> {
    return this.#change(({ pausedSince: _, ...wishes }) => ({ ...wishes, resumedAt: now() }));
  }

  cancel(run: string): Promise<void> {
    return this.#change((wishes) => ({
      ...wishes,
      cancelled: { ...recent(wishes.cancelled), [run]: now() },
    }));
  }

  async #change(change: (wishes: Wishes) => Wishes): Promise<void> {
    for (;;) {
      const { wishes, etag } = await this.#read();
      const bytes = Buffer.from(JSON.stringify(change(wishes)));
      const condition = etag === undefined ? { ifAbsent: true } : { ifMatch: etag };
      if ((await this.#state.put(key, bytes, condition)) !== undefined) return;
    }
  }

  /** Nothing is asked where the document was damaged: the next wish is written over it. */
  async #read(): Promise<{ wishes: Wishes; etag: string | undefined }> {
    const document = await this.#state.get(key);
    const wishes = document && parseStored(document.bytes, wishesSchema);
    return { wishes: wishes ?? { cancelled: {} }, etag: document?.etag };
  }
}

function recent(cancelled: Wishes['cancelled']): Wishes['cancelled'] {
  const since = Date.now() - rememberedMs;
  return Object.fromEntries(Object.entries(cancelled).filter(([, at]) => Date.parse(at) > since));
}

function now(): string {
  return new Date().toISOString();
}
