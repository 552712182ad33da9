/** The files that a folder of documents is made of: documents, leases, drafts. */
import { randomUUID } from 'node:crypto';
import { type BigIntStats, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory } from './directory.ts';
import { checkSize } from './failure.ts';
import { type Owner, ownerIn } from './folder-owner.ts';
import type { StoredDocument, StoredName } from './ports.ts';

/** What tells one version of a file from another; `undefined` where there is no file. */
export function marksOf(path: string): BigIntStats | undefined {
  return statSync(path, { bigint: true, throwIfNoEntry: false });
}

export function etagOf({ mtimeNs, ino, size }: BigIntStats): string {
  return `"${[mtimeNs, ino, size].map((mark) => mark.toString(36)).join('-')}"`;
}

/** Absence is no failure. */
export async function ifThere<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Bytes and ETag belong together: an open file stays the same one when another takes its name. */
export async function readDocument(path: string, key: string): Promise<StoredDocument> {
  const file = await open(path);
  try {
    const marks = await file.stat({ bigint: true });
    checkSize(key, Number(marks.size));
    return { bytes: await file.readFile(), etag: etagOf(marks) };
  } finally {
    await file.close();
  }
}

export async function nameOf(key: string, path: string): Promise<StoredName> {
  const marks = await stat(path, { bigint: true });
  return { key, etag: etagOf(marks), size: Number(marks.size), modifiedAt: Number(marks.mtimeMs) };
}

export interface HeldLease {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly until: number;
  readonly owner: Owner | undefined;
}

/** `@` is in no encoded key. */
const leasePath = (path: string) => `${path}@lease`;

/** What a kill left half written was never given to anybody, so it counts as no lease. */
export function readLease(path: string): HeldLease | undefined {
  if (!existsSync(leasePath(path))) return undefined;
  try {
    const { id, until, owner } = JSON.parse(readFileSync(leasePath(path), 'utf8')) as Partial<HeldLease>;
    if (typeof id !== 'string' || typeof until !== 'number') return undefined;
    return { id, until, owner: ownerIn(owner) };
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

export function writeLease(path: string, lease: HeldLease): void {
  writeFileSync(leasePath(path), JSON.stringify(lease), { mode: 0o600 });
}

export function removeLease(path: string): void {
  rmSync(leasePath(path), { force: true });
}

/** Drafts of killed processes are taken away after so long. */
const abandonedAfterMs = 3_600_000;

/** Files in the making, on the same file system as what they become. */
export class Drafts {
  readonly #directory: string;
  #ready: Promise<void> | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Writes a draft, and removes it again unless it was renamed. */
  async with<T>(bytes: Uint8Array, durable: boolean, use: (draft: string) => Promise<T>): Promise<T> {
    this.#ready ??= this.#prepare();
    await this.#ready;
    const draft = join(this.#directory, randomUUID());
    try {
      await write(draft, bytes, durable);
      return await use(draft);
    } finally {
      rmSync(draft, { force: true });
    }
  }

  async #prepare(): Promise<void> {
    makeDirectory(this.#directory);
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      const marks = await ifThere(() => stat(path));
      if (marks !== undefined && Date.now() - marks.mtimeMs > abandonedAfterMs)
        await rm(path, { force: true });
    }
  }
}

/** Written in less time than a thread takes to be asked. */
const smallBytes = 64 * 1024;

async function write(path: string, bytes: Uint8Array, durable: boolean): Promise<void> {
  const mustSync = durable && bytes.byteLength > 0;
  if (!mustSync && bytes.byteLength <= smallBytes) {
    writeFileSync(path, bytes, { flag: 'wx', mode: 0o600 });
    return;
  }
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    if (mustSync) await file.datasync();
  } finally {
    await file.close();
  }
}
