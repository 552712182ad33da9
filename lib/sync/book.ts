/**
 * The book of runs: who asked for what, and how each request ended.
 *
 * Every request writes one part, under a name that tells how many further requests it opened; so a listing of names alone
 * says whether a run is complete, in whatever order the parts come, and a part written twice is one part. The report is
 * written where none is yet: a run closes once.
 */
import * as z from 'zod';
import type { DocumentStore } from '../storage/ports.ts';
import { forEachOf } from './concurrency.ts';
import {
  type AnyReport,
  buildReport,
  type Line,
  type RunHeader,
  type SyncOutcome,
  syncOutcomes,
  type TransferTotals,
  type Trigger,
} from './report.ts';
import { readRun, reportKey } from './runs.ts';
import { addTransfer, noTransfer } from './tally.ts';

export interface Part {
  /** The request that it ends. */
  readonly id: string;
  /** Requests that it opened. */
  readonly opened: number;
  readonly lines: readonly Line<SyncOutcome>[];
  readonly transfer: TransferTotals;
  /** Not an end: parked until then (milliseconds since the epoch). */
  readonly parkedUntil?: number | undefined;
}

const headerSchema = z.object({ id: z.string(), trigger: z.string(), startedAt: z.string() });

/** From so far ahead on a parked tag belongs to the next run: the daily plan finds it again. */
const nextPlanMs = 24 * 3600_000;
const partsAtOnce = 16;

export class RunBook {
  readonly #runs: DocumentStore;

  constructor(runs: DocumentStore) {
    this.#runs = runs;
  }

  /** Opens a run that begins with so many requests; a run that is open already gets these too. */
  async open(id: string, trigger: Trigger, startedAt: Date, opener: string, requests: number): Promise<void> {
    const header = { id, trigger, startedAt: startedAt.toISOString() };
    await this.#runs.put(`open/${id}.json`, encode(header), { ifAbsent: true });
    await this.write(id, { id: opener, opened: requests, lines: [], transfer: noTransfer() });
  }

  /** Whether the run has its report. */
  async isClosed(id: string): Promise<boolean> {
    return (await this.#runs.get(reportKey(id))) !== undefined;
  }

  async write(run: string, part: Part): Promise<void> {
    const state = part.parkedUntil === undefined ? 'ended' : `parked-${part.parkedUntil}`;
    const prefix = `parts/${run}/${part.id}~`;
    const key = `${prefix}${part.opened}~${state}`;
    await this.#runs.put(key, encode(part));
    for await (const name of this.#runs.list(prefix)) if (name.key !== key) await this.#runs.delete(name.key);
  }

  /** Closes the run where every request has ended, or is parked past the next plan. True for the one caller that closed it. */
  async close(run: string): Promise<boolean> {
    const header = await this.#header(run);
    if (header === undefined) return false;
    const names = await this.#names(run);
    const opened = names.reduce((sum, name) => sum + openedBy(name), 0);
    const openers = names.filter((name) => name.startsWith('start-')).length;
    const horizon = Date.parse(header.startedAt) + nextPlanMs;
    if (names.length < openers + opened || names.some((name) => parkedUntil(name) < horizon)) return false;
    const report = await this.#fold(run, { ...header, finishedAt: new Date().toISOString() }, names);
    const closed = await this.#runs.put(reportKey(run), encode(report), { ifAbsent: true });
    await this.#runs.delete(`open/${run}.json`);
    return closed !== undefined;
  }

  /** A run's report, also of one that is still open. */
  async report(run: string): Promise<AnyReport | undefined> {
    const closed = await readRun(this.#runs, run);
    if (closed !== undefined) return closed;
    const header = await this.#header(run);
    return header === undefined ? undefined : this.#fold(run, header, await this.#names(run));
  }

  /** Runs without a report yet. */
  async openRuns(): Promise<string[]> {
    const open: string[] = [];
    for await (const { key } of this.#runs.list('open/'))
      open.push(key.slice('open/'.length, -'.json'.length));
    return open;
  }

  async #header(run: string): Promise<RunHeader | undefined> {
    const document = await this.#runs.get(`open/${run}.json`);
    if (document === undefined) return undefined;
    return headerSchema.parse(JSON.parse(Buffer.from(document.bytes).toString())) as RunHeader;
  }

  async #names(run: string): Promise<string[]> {
    const prefix = `parts/${run}/`;
    const names: string[] = [];
    for await (const { key } of this.#runs.list(prefix)) names.push(key.slice(prefix.length));
    return names;
  }

  async #fold(run: string, header: RunHeader, names: readonly string[]): Promise<AnyReport> {
    const parts: Part[] = [];
    await forEachOf(names, partsAtOnce, async (name) => {
      const document = await this.#runs.get(`parts/${run}/${name}`);
      if (document !== undefined) parts.push(JSON.parse(Buffer.from(document.bytes).toString()) as Part);
    });
    const transfer = noTransfer();
    for (const part of parts) addTransfer(transfer, part.transfer);
    const lines = parts.flatMap((part) => part.lines).sort((a, b) => (a.target < b.target ? -1 : 1));
    return buildReport(header, syncOutcomes, lines, transfer);
  }
}

function openedBy(name: string): number {
  return Number(name.split('~')[1]);
}

function parkedUntil(name: string): number {
  const state = name.split('~')[2] ?? '';
  return state.startsWith('parked-') ? Number(state.slice('parked-'.length)) : Number.POSITIVE_INFINITY;
}

function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}
