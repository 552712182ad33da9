/** The parts of runs as they are kept: one document for each end, and one for each request that waits. */
import { randomUUID } from 'node:crypto';
import * as z from 'zod';
import { type ErrorSummary, HubferryError, summarize } from '../../errors.ts';
import type { DocumentStore } from '../../storage/ports.ts';
import { forEachOf } from '../concurrency.ts';
import { parseStored } from '../stored.ts';
import {
  distinct,
  doneBefore,
  keyOfPart,
  once,
  type Part,
  type PartName,
  parseName,
  prefixOf,
  transferOf,
} from './parts.ts';

/** As far as it is relied on. */
const partShape = z.object({
  id: z.string(),
  opened: z.array(z.object({ id: z.string() })),
  lines: z.array(z.object({ target: z.string(), outcome: z.string() })),
  transfer: z.object({ bytesCopied: z.number() }),
});
const partSchema = z.custom<Part>((value) => partShape.safeParse(value).success);

const partsAtOnce = 16;

export class PartStore {
  readonly #runs: DocumentStore;
  /** The parts of the open run that was read last: a page that shows it asks again and again. */
  #read: { run: string; parts: Map<string, Part> } = { run: '', parts: new Map() };

  constructor(runs: DocumentStore) {
    this.#runs = runs;
  }

  /** With why others cannot be read, by request. */
  async read(run: string): Promise<{ parts: Part[]; damaged: ReadonlyMap<string, ErrorSummary> }> {
    const known = this.#read.run === run ? this.#read.parts : new Map<string, Part>();
    const parts = new Map<string, Part>();
    const damaged = new Map<string, ErrorSummary>();
    await forEachOf(await this.names(prefixOf(run)), partsAtOnce, async ({ key, id }) => {
      const part = known.get(key) ?? (await this.get(key).catch(ifDamaged));
      if (part instanceof DamagedError) damaged.set(id, summarize(part));
      else if (part !== undefined) parts.set(key, part);
    });
    this.#read = { run, parts };
    return { parts: [...parts.values()].sort(byParking), damaged };
  }

  /** The first end stands. */
  async put(run: string, part: Part): Promise<Part> {
    const key = keyOfPart(run, part);
    if ((await this.#runs.put(key, encode(part), { ifAbsent: true })) !== undefined) return part;
    return (await this.get(key)) ?? part;
  }

  /** One parking for each request, which adds up what it has done so far. */
  async park(run: string, part: Part): Promise<Part> {
    const key = keyOfPart(run, part);
    const names = await this.names(`${prefixOf(run)}${part.id}~`);
    const lines = [...part.lines];
    const deliveries = { [randomUUID()]: part.transfer };
    for (const name of names) {
      const before = name.parkedUntil === undefined ? undefined : await this.get(name.key);
      if (before === undefined) continue;
      lines.push(...doneBefore(before));
      Object.assign(deliveries, before.deliveries ?? { [name.key]: before.transfer });
    }
    const transfer = transferOf([{ ...part, deliveries }]);
    const parking = { ...part, lines: distinct(once(lines)), transfer, deliveries };
    await this.#runs.put(key, encode(parking));
    for (const name of names)
      if (name.parkedUntil !== undefined && name.key !== key) await this.#runs.delete(name.key);
    return parking;
  }

  async sweep(run: string): Promise<void> {
    await forEachOf(this.#runs.list(prefixOf(run)), partsAtOnce, async ({ key }) => {
      await this.#runs.delete(key);
    });
  }

  async get(key: string): Promise<Part | undefined> {
    const document = await this.#runs.get(key);
    if (document === undefined) return undefined;
    const part = parseStored(document.bytes, partSchema);
    if (part === undefined) throw new DamagedError(key);
    return part;
  }

  async names(prefix: string): Promise<PartName[]> {
    const names: PartName[] = [];
    for await (const name of this.#runs.list(prefix)) names.push(parseName(name));
    return names;
  }
}

/** Two deliveries at once may each have parked the request: the later one tells how it stands. */
function byParking({ parkedUntil: one = 0 }: Part, { parkedUntil: other = 0 }: Part): number {
  return one - other;
}

export function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** A document of one run is none of the book's: that run waits for people, and no other. */
export class DamagedError extends HubferryError {
  constructor(key: string) {
    super('ERR_STORAGE', `${key} cannot be read: it was damaged, and may be deleted`);
  }
}

function ifDamaged(error: unknown): DamagedError {
  if (error instanceof DamagedError) return error;
  throw error;
}
