/** Documents that were stored as JSON: what a kill or a hand has damaged is `undefined`, and stops nobody. */
import type * as z from 'zod';

export function parseStored<T>(bytes: Uint8Array, schema: z.ZodType<T>): T | undefined {
  try {
    return schema.safeParse(JSON.parse(Buffer.from(bytes).toString())).data;
  } catch {
    return undefined;
  }
}
