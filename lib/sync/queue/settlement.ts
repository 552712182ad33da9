/**
 * Where a request goes, and who is told: it is sent or joins another one, is sent again, waits, or has ended. A run hears of its
 * requests in the book; the order of what is written is such that a crash in between loses nothing.
 */
import { HubferryError } from '../../errors.ts';
import type { Digest } from '../../oci/descriptor.ts';
import type { RequestQueues } from '../../storage/ports.ts';
import type { CopyRequest, PlanRequest } from '../request.ts';
import type { Announce, RunBook } from '../runs/book.ts';
import type { OnEvent } from '../runs/events.ts';
import { type Lane, laneOf, lanes, type ParkingLot, paused } from '../runs/parked.ts';
import { costOf, type Found, linesOf, type Opened, openedBy, type Part } from '../runs/parts.ts';
import type { Line, SyncOutcome } from '../runs/report.ts';
import { noTransfer, Tally } from '../runs/tally.ts';
import { tellUntold } from '../runs/untold.ts';
import { idFrom } from '../select/names.ts';
import type { Asking, Claim, Outstanding, Waiter } from './outstanding.ts';

export interface SettlementOptions {
  readonly queues: RequestQueues;
  readonly book: RunBook;
  readonly parked: ParkingLot;
  readonly outstanding: Outstanding;
  readonly onEvent: OnEvent;
  readonly announce: Announce;
}

export class Settlement {
  readonly #options: SettlementOptions;

  constructor(options: SettlementOptions) {
    this.#options = options;
  }

  /** Sends what nobody else has asked for; what somebody has ends in this run too. */
  async ask(request: CopyRequest, asking: Asking): Promise<Opened[]> {
    const { sends, joins } = await this.#options.outstanding.claim(request, asking);
    await this.#send({ sends, joins }, request);
    return [...sends, ...joins].map(({ id, tags }) => openedBy({ ...request, id, tags }));
  }

  async #send({ sends, joins }: Claim, request: CopyRequest): Promise<void> {
    const { outstanding, queues } = this.#options;
    for (const one of sends) {
      try {
        await queues.send(lanes[laneOf(one)], one);
      } catch (error) {
        if (isRefusal(error)) await outstanding.withdraw(one);
        throw error;
      }
    }
    for (const { id, tags, parked } of joins) {
      if (parked === undefined) continue;
      const { until: parkedUntil, ...parkedAs } = parked;
      const until = new Date(parkedUntil).toISOString();
      const lines = linesOf({ ...request, tags }, 'deferred', { reason: 'an earlier run parked it', until });
      const part = { id, opened: [], lines, transfer: noTransfer(), parkedUntil, parkedAs };
      await this.#write(request.run, part);
    }
  }

  /** What follows another request: it waits for nobody else's unless that one is for all its tags. */
  async sendFollowUp(request: CopyRequest): Promise<void> {
    await this.#send(await this.#options.outstanding.claimWhole(request), request);
  }

  /** The same request once more, as a message of its own: no delivery of this one is burned. What was done so far is noted. */
  async sendAgain(
    request: CopyRequest,
    lane: Lane,
    delaySeconds: number,
    lines: readonly Line<SyncOutcome>[],
    tally: Tally,
  ): Promise<void> {
    await this.#options.queues.send(lanes[lane], request, { delaySeconds });
    const done = lines.filter(({ outcome }) => outcome === 'copied' || outcome === 'deleted');
    if (done.length === 0 && tally.bytesCopied === 0 && tally.pulls === 0) return;
    const parkedUntil = Date.now() + delaySeconds * 1000;
    const part = { opened: [], lines: done, ...costOf(tally), parkedUntil, sentAgain: true };
    const teller = this.#teller();
    await this.#options.outstanding.note(request, (waiter) => teller.tell(waiter, part));
  }

  /** The request waits until then, and whoever waits for it knows. */
  async park(
    request: CopyRequest | PlanRequest,
    lane: Lane,
    until: number,
    reason: string,
    { lines, opened = [] }: Found,
    tally = new Tally(),
  ): Promise<void> {
    await this.#options.parked.park(request, lane, until, reason);
    for (const line of lines) if (line.outcome === 'deferred') this.tellLine(line, request, lane);
    const { run, id } = request;
    const waits = { parkedUntil: until, parkedAs: { run, id }, paused: reason === paused };
    const part = { opened, lines, ...costOf(tally), ...waits };
    if (request.kind === 'plan') return void (await this.#write(run, { ...part, id }));
    const teller = this.#teller();
    await this.#options.outstanding.park(request, until, (waiter) => teller.tell(waiter, part));
  }

  /** The first end stands, and all who wait for the request are told. */
  async end(
    request: CopyRequest,
    lane: Lane,
    lines: readonly Line<SyncOutcome>[],
    tally: Tally,
    followUp?: CopyRequest,
  ): Promise<void> {
    const { outstanding } = this.#options;
    for (const line of lines) this.tellLine(line, request, operationOf(request, lane));
    const part = { opened: [], lines, ...costOf(tally) };
    const teller = this.#teller();
    const followed = new Set<string>();
    await outstanding.end(request, async (waiter) => {
      if (followUp === undefined) return teller.tell(waiter, part);
      const next = followedBy(followUp, lane, waiter);
      // In the book first: a request that comes again may find no move any more, and what was to be sent is waited for.
      const sends = [{ queue: lanes[lane], message: next }];
      await teller.tell(waiter, { ...part, opened: [openedBy(next)], sends });
      // A run may wait under several names.
      if (!followed.has(waiter.run)) await this.sendFollowUp(next);
      followed.add(waiter.run);
    });
    if (!teller.isCounted() && isNews(part)) await tellUntold(this.#options.book, request, part);
    if (lane === 'push') await this.#takeOver(request, part);
  }

  /** What went first and ended well, nobody needs to do from the backlog. */
  async #takeOver(request: CopyRequest, part: Omit<Part, 'id'>): Promise<void> {
    const [first] = part.lines;
    const isWell = part.lines.every(({ outcome }) => outcome === 'copied' || outcome === 'unchanged');
    if (first?.digest === undefined || !isWell) return;
    const taken = { ...request, digest: request.digest ?? (first.digest as Digest) };
    // The push itself has counted what it cost.
    await this.#options.outstanding.takeOver(taken, async ({ run, id }) => {
      await this.#write(run, { ...withoutCost(part), id });
    });
  }

  /** Tells the log of an outcome. */
  tellLine(line: Line, request: CopyRequest | PlanRequest, operation: string): void {
    const { run } = request;
    const pushedAt = request.kind !== 'plan' && line.outcome === 'copied' ? request.pushedAt : undefined;
    const since = pushedAt === undefined ? {} : { pushToMirrorMs: Date.now() - pushedAt };
    this.#options.onEvent({ type: 'line', line, fields: { run, operation, ...since } });
  }

  /**
   * Tells the runs that wait for a request, the one that sent it first: the first that is still open counts what it cost, the
   * others see its end alone.
   */
  #teller(): { tell: (waiter: Waiter, part: Omit<Part, 'id'>) => Promise<void>; isCounted: () => boolean } {
    let isCounted = false;
    return {
      isCounted: () => isCounted,
      tell: async ({ run, id }, part) => {
        const told = isCounted ? withoutCost(part) : part;
        if (await this.#write(run, { ...told, id })) isCounted = true;
      },
    };
  }

  /** False where the run was closed already. */
  async #write(run: string, part: Part): Promise<boolean> {
    return (await this.#options.book.write(run, part, this.#options.announce)) !== undefined;
  }
}

/** What work on a request is called where it is told. */
export function operationOf({ kind }: CopyRequest, lane: Lane): string {
  return kind === 'delete' ? kind : lane;
}

/** Whether somebody misses something who is not told. */
function isNews({ lines, transfer }: Omit<Part, 'id'>): boolean {
  const isIdle = ({ outcome }: Line) => outcome === 'unchanged' || outcome === 'skipped';
  return transfer.bytesCopied > 0 || transfer.pulls > 0 || !lines.every(isIdle);
}

function withoutCost(part: Omit<Part, 'id'>): Omit<Part, 'id'> {
  const lines = part.lines.map(({ bytes: _, ...line }) => line);
  return { ...part, lines, transfer: noTransfer(), pullsLeft: undefined, longestBlobs: undefined };
}

/** Whether the queue has not taken what it was sent. What went without an answer may be there. */
function isRefusal(error: unknown): boolean {
  return error instanceof HubferryError && !error.retryable;
}

/** A follow-up belongs to each run that waited for its request, and is another one than the one before it for the same digest. */
function followedBy(followUp: CopyRequest, lane: Lane, { run }: Waiter): CopyRequest {
  const { id, rule, target, digest, tags } = followUp;
  const names = tags.map((tag) => tag.target);
  return { ...followUp, run, id: `${lane}-${idFrom(id, rule, target, digest, ...names)}` };
}
