/** A time that all instances keep, in storage: whoever knows a later one moves it on, and nobody moves it back. */
import * as z from 'zod';
import type { DocumentStore } from '../storage/ports.ts';
import { parseStored } from './stored.ts';

/** How far the clocks of two instances may differ, in milliseconds. */
export const clockSkewMs = 5 * 60_000;

const noteSchema = z.object({ until: z.number() });

/** Milliseconds since the epoch; 0 where none was told. */
export async function readTime(store: DocumentStore, key: string): Promise<number> {
  return (await read(store, key)).until;
}

/** @returns the time that stands: the one given, or a later one. */
export async function postpone(store: DocumentStore, key: string, until: number): Promise<number> {
  for (;;) {
    const known = await read(store, key);
    if (known.until >= until) return known.until;
    const condition = known.etag === undefined ? { ifAbsent: true } : { ifMatch: known.etag };
    if ((await store.put(key, Buffer.from(JSON.stringify({ until })), condition)) !== undefined) return until;
  }
}

async function read(store: DocumentStore, key: string): Promise<{ until: number; etag: string | undefined }> {
  const document = await store.get(key);
  const note = document && parseStored(document.bytes, noteSchema);
  return { until: note?.until ?? 0, etag: document?.etag };
}
