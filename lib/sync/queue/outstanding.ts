/** Of each lane at most one request is outstanding for a rule, target repository and digest; later ones join it, and what goes first ends what it has done. */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import type { DocumentStore } from '../../storage/ports.ts';
import { forEachOf } from '../concurrency.ts';
import { lateReferrers } from '../copy/referrers.ts';
import { beforeOthers, type CopyRequest, goesFirst } from '../request.ts';
import type { ParkedAs, ParkingLot } from '../runs/parked.ts';
import { clockSkewMs } from '../shared-time.ts';
import { parseStored } from '../stored.ts';

const markSchema = z.object({
  /** The request that is outstanding. */
  id: z.string(),
  /** Tags at the target that it is about. */
  tags: z.array(z.string()),
  /** The run that sent it, then those that joined; each with the name under which it waits for the end. */
  waiters: z.array(z.object({ run: z.string(), id: z.string() })),
  /** Milliseconds since the epoch: when it was sent, or until when it was parked. */
  at: z.number(),
  /** While it is parked, and however often it is parked again: the run under whose name. A time alone does not tell, by another clock. */
  parkedBy: z.string().optional(),
  /** The plan that asked for it; absent for what followed another request. */
  plan: z.string().optional(),
});
type Mark = z.infer<typeof markSchema>;

/** A run that waits for the end of a request, and the name under which it does. */
export type Waiter = Mark['waiters'][number];
export type Tell = (waiter: Waiter) => Promise<void>;

/** Who asks. */
export interface Asking {
  readonly plan: string;
  /** The plan may have asked for it before, with whatever success. */
  readonly again: boolean;
}

export interface Claim {
  /** What nobody else has asked for. */
  readonly sends: readonly CopyRequest[];
  /** What somebody else has: it ends in this run too. */
  readonly joins: readonly Joined[];
}

export interface Joined {
  /** The name under which the run waits. */
  readonly id: string;
  readonly tags: CopyRequest['tags'];
  /** Where it waits for a time. */
  readonly parked: Waiting | undefined;
}

export interface Waiting extends ParkedAs {
  /** Milliseconds since the epoch. */
  readonly until: number;
}

const prefix = 'outstanding/';
/**
 * A mark that nobody took away for so long is of a message that was lost, unless it is parked: that may take days. It is over
 * before the next day's plan.
 */
const believedMs = 12 * 3600_000;
/** What was parked and is found nowhere is gone, when its time has been over for so many milliseconds by any clock. */
const goneMs = 2 * clockSkewMs;
const marksAtOnce = 16;

export class Outstanding {
  readonly #state: DocumentStore;
  readonly #parked: ParkingLot;

  constructor(state: DocumentStore, parked: ParkingLot) {
    this.#state = state;
    this.#parked = parked;
  }

  /**
   * Notes a request of a run's plan as outstanding, or joins the one that is. Tags that the latter leaves out are a request
   * of their own. What goes first joins only what does so too; anything else joins both. What a plan has asked for before is
   * sent once more: nobody knows whether it was.
   */
  async claim(request: CopyRequest, asking: Asking): Promise<Claim> {
    const { plan, again } = asking;
    const own = again ? await this.#own(request, plan) : undefined;
    if (own !== undefined) {
      const others = own.rest === undefined ? nothing : await this.claim(own.rest, asking);
      return { sends: [own.request, ...others.sends], joins: others.joins };
    }
    const before = goesFirst(request)
      ? { sends: [], joins: [], rest: request }
      : await this.#joinFirst(request);
    if (before.rest === undefined) return before;
    const { rest, ...claim } = await this.#claimAt(keyOf(before.rest), before.rest, { plan });
    const after = rest === undefined ? nothing : await this.#claimAt(keyWithTags(rest), rest, { plan });
    return {
      sends: [...claim.sends, ...after.sends],
      joins: [...before.joins, ...claim.joins, ...after.joins],
    };
  }

  /** As `claim`; but where the request that is outstanding leaves out a tag, all tags are a request of their own, under its name. */
  async claimWhole(request: CopyRequest): Promise<Claim> {
    const own = await this.#own(request, undefined);
    if (own?.request.id === request.id) return { sends: [request], joins: [] };
    if (!goesFirst(request)) {
      const first = await this.#joinAt(keyOf(request, true), request, joinWhole);
      if (first !== undefined && first.rest === undefined) return first;
    }
    const { rest, ...claim } = await this.#claimAt(keyOf(request), request, { joins: joinWhole });
    return rest === undefined ? claim : this.#claimAt(keyWithTags(request), request, { joins: joinWhole });
  }

  /** The queue refused the request: unless another run has joined it, it is not outstanding. */
  async withdraw(request: CopyRequest): Promise<void> {
    const found = await this.#ours(request);
    if (found?.mark.waiters.every(({ run }) => run === request.run))
      await this.#state.delete(found.key, { ifMatch: found.etag });
  }

  /**
   * A run's plan comes no more, and what it asked for may never have been sent, but for these: whoever asks next sends it, for
   * all who wait.
   */
  async doubt(run: string, plan: string, sent: ReadonlySet<string>): Promise<void> {
    await forEachOf(this.#state.list(prefix), marksAtOnce, async ({ key }) => {
      for (;;) {
        const found = await this.#read(key);
        if (found?.mark?.plan !== plan || found.mark.waiters[0]?.run !== run) return;
        // What is parked was sent too.
        if (sent.has(found.mark.id) || found.mark.parkedBy !== undefined) return;
        if (await this.#write(key, { ...found.mark, at: 0 }, found.etag)) return;
      }
    });
  }

  /** Rests of these requests that a run's plan has noted, and that are not parked: whether they were sent, nobody knows. */
  async restsOf(
    requests: readonly CopyRequest[],
    { run, plan }: { readonly run: string; readonly plan: string },
  ): Promise<CopyRequest[]> {
    const rests: CopyRequest[] = [];
    await forEachOf(this.#state.list(prefix), marksAtOnce, async ({ key }) => {
      const mark = (await this.#read(key))?.mark;
      if (mark?.plan !== plan || mark.waiters[0]?.run !== run || mark.parkedBy !== undefined) return;
      for (const request of requests) {
        const rest = restOf(request, split(request, mark)[0]);
        if (rest.id === mark.id) rests.push(rest);
      }
    });
    return rests;
  }

  /** The request has ended: all who wait for it are told, and then it may be asked for again. */
  async end(request: CopyRequest, tell: Tell): Promise<void> {
    const told = await this.#tellOwn(request, tell);
    const ours = ({ id }: Mark) => id === request.id;
    const found = await this.#takeAway(keyOf(request), ours, told, tell);
    if (!found) await this.#takeAway(keyWithTags(request), ours, told, tell);
  }

  /**
   * What went first did what a request in the backlog was to do for all these tags: those who wait for it are told, and it has
   * nothing left to do.
   */
  async takeOver(request: CopyRequest, tell: Tell): Promise<void> {
    const done = new Set(request.tags.map(({ target }) => target));
    const covered = ({ tags }: Mark) => tags.every((tag) => done.has(tag));
    await this.#takeAway(keyOf(request, false), covered, new Set(), tell);
  }

  /** The request waits until then: all who wait for it are told, and who joins it later is too. */
  async park(request: CopyRequest, until: number, tell: Tell): Promise<void> {
    const told = await this.#tellOwn(request, tell);
    for (;;) {
      const found = await this.#ours(request);
      if (found === undefined) return;
      await tellOthers(found.mark, told, tell);
      const mark = { ...found.mark, at: until, parkedBy: request.run };
      if (await this.#write(found.key, mark, found.etag)) return;
    }
  }

  /** What was done so far is told to all who wait for the request. */
  async note(request: CopyRequest, tell: Tell): Promise<void> {
    const told = await this.#tellOwn(request, tell);
    const found = await this.#ours(request);
    if (found !== undefined) await tellOthers(found.mark, told, tell);
  }

  /** A parked request is sent again: its message is as young as any. */
  async sendAgain(request: CopyRequest): Promise<void> {
    for (;;) {
      const found = await this.#ours(request);
      if (found === undefined) return;
      const mark = { ...found.mark, at: Date.now(), parkedBy: undefined };
      if (await this.#write(found.key, mark, found.etag)) return;
    }
  }

  /** The runs that wait for a request. */
  async runsOf(request: CopyRequest): Promise<string[]> {
    const found = await this.#ours(request);
    return [...new Set([request.run, ...(found?.mark.waiters ?? []).map(({ run }) => run)])];
  }

  /** Takes away marks whose message was lost, and that nobody has asked for since: the runs that waited have ended without. */
  async tidy(olderThanMs: number): Promise<void> {
    const before = Date.now() - olderThanMs;
    for await (const { key, modifiedAt } of this.#state.list(prefix)) {
      if (modifiedAt >= before) continue;
      const { believed, etag } = await this.#look(key);
      if (etag !== undefined && believed === undefined) await this.#state.delete(key, { ifMatch: etag });
    }
  }

  /** What the same plan, or end of a request, has noted before, whether it was sent or not. What is parked was. */
  async #own(
    request: CopyRequest,
    plan: string | undefined,
  ): Promise<{ request: CopyRequest; rest: CopyRequest | undefined } | undefined> {
    for (const key of [keyOf(request), keyWithTags(request)]) {
      const { believed } = await this.#look(key);
      if (believed === undefined || believed.parked !== undefined) continue;
      const { id, waiters, plan: by } = believed.mark;
      const [own, others] = split(request, believed.mark);
      if (by !== plan || waiters[0]?.run !== request.run || own.length === 0) continue;
      const rest = others.length === 0 ? undefined : restOf(request, others);
      return { request: { ...request, id, tags: own }, rest };
    }
    return undefined;
  }

  /** Joins what goes first. */
  async #joinFirst(request: CopyRequest): Promise<Claimed> {
    const first = await this.#joinAt(keyOf(request, true), request);
    if (first?.rest === undefined) return first ?? { ...nothing, rest: request };
    const rest = first.joins.length === 0 ? request : first.rest;
    const other = await this.#joinAt(keyWithTags(rest, true), rest);
    return {
      sends: [],
      joins: [...first.joins, ...(other?.joins ?? [])],
      rest: other === undefined ? rest : other.rest,
    };
  }

  /** Undefined where nothing is outstanding there. */
  async #joinAt(key: string, request: CopyRequest, joins = join): Promise<Claimed | undefined> {
    for (;;) {
      const { believed, etag } = await this.#look(key);
      if (believed === undefined) return undefined;
      const { mark, claim } = joins(request, believed);
      if (mark === believed.mark || (await this.#write(key, mark, etag))) return claim;
    }
  }

  async #claimAt(key: string, request: CopyRequest, { joins = join, plan }: Claiming): Promise<Claimed> {
    for (;;) {
      const { mark: there, believed, etag } = await this.#look(key);
      const { mark, claim } =
        believed === undefined
          ? { mark: { ...markOf(request, there), plan }, claim: { sends: [request], joins: [] } }
          : joins(request, believed);
      if (mark === believed?.mark || (await this.#write(key, mark, etag))) return claim;
    }
  }

  /** What is noted there, and what of it is believed. Without an etag where there is nothing. */
  async #look(key: string): Promise<Partial<{ mark: Mark; believed: Believed; etag: string }>> {
    const { mark, etag } = (await this.#read(key)) ?? {};
    const believed = mark && (await this.#believed(mark));
    return { ...(mark && { mark }), ...(believed && { believed }), ...(etag !== undefined && { etag }) };
  }

  /** A mark whose request is there still, as far as can be known. */
  async #believed(mark: Mark): Promise<Believed | undefined> {
    const parked = await this.#waiting(mark);
    if (parked !== undefined) return { mark: { ...mark, at: parked.until }, parked };
    const isLost = mark.parkedBy !== undefined || Date.now() - mark.at > believedMs;
    return isLost ? undefined : { mark };
  }

  /** What is released and parked again keeps its mark as it was: then the parking says until when. */
  async #waiting({ id, at, parkedBy, waiters }: Mark): Promise<Waiting | undefined> {
    const as = { run: parkedBy ?? waiters[0]?.run ?? '', id };
    const now = Date.now();
    const until = parkedBy !== undefined && at > now ? at : await this.#parked.untilOf(as);
    if (until !== undefined) return { ...as, until };
    // Another instance may have parked it since the parking was looked at.
    return parkedBy !== undefined && now - at < goneMs ? { ...as, until: at } : undefined;
  }

  async #tellOwn({ run, id }: CopyRequest, tell: Tell): Promise<Set<string>> {
    await tell({ run, id });
    return new Set([nameOf({ run, id })]);
  }

  async #takeAway(
    key: string,
    ours: (mark: Mark) => boolean,
    told: Set<string>,
    tell: Tell,
  ): Promise<boolean> {
    for (;;) {
      const found = await this.#read(key);
      if (found === undefined || (found.mark !== undefined && !ours(found.mark))) return false;
      if (found.mark !== undefined) await tellOthers(found.mark, told, tell);
      if (await this.#state.delete(key, { ifMatch: found.etag })) return found.mark !== undefined;
    }
  }

  async #ours(request: CopyRequest): Promise<{ key: string; mark: Mark; etag: string } | undefined> {
    for (const key of [keyOf(request), keyWithTags(request)]) {
      const found = await this.#read(key);
      if (found?.mark?.id === request.id) return { key, mark: found.mark, etag: found.etag };
    }
    return undefined;
  }

  /** Without a mark where it was damaged: who asks next writes over it, and what ends takes it away. */
  async #read(key: string): Promise<{ mark: Mark | undefined; etag: string } | undefined> {
    const document = await this.#state.get(key);
    return document && { mark: parseStored(document.bytes, markSchema), etag: document.etag };
  }

  async #write(key: string, mark: Mark, etag: string | undefined): Promise<boolean> {
    const condition = etag === undefined ? { ifAbsent: true } : { ifMatch: etag };
    return (await this.#state.put(key, Buffer.from(JSON.stringify(mark)), condition)) !== undefined;
  }
}

/** Who waited for a message that was lost waits for the new one. */
function markOf({ id, run, tags }: CopyRequest, lost: Mark | undefined): Mark {
  const own = nameOf({ run, id });
  const others = lost?.waiters.filter((waiter) => nameOf(waiter) !== own) ?? [];
  return { id, tags: tags.map(({ target }) => target), waiters: [{ run, id }, ...others], at: Date.now() };
}

const nothing: Claim = { sends: [], joins: [] };

interface Believed {
  readonly mark: Mark;
  readonly parked?: Waiting;
}

interface Claiming {
  /** @default join */
  readonly joins?: typeof join;
  readonly plan?: string;
}
type Claimed = Claim & { readonly rest?: CopyRequest | undefined };
interface Joining {
  /** The same, where nothing is to be written. */
  readonly mark: Mark;
  readonly claim: Claimed;
}

function joinWhole(request: CopyRequest, believed: Believed): Joining {
  const { mark } = believed;
  return covers(mark, request)
    ? join(request, believed)
    : { mark, claim: { sends: [], joins: [], rest: request } };
}

function join(request: CopyRequest, { mark, parked }: Believed): Joining {
  const [covered, others] = split(request, mark);
  const rest = others.length > 0 ? restOf(request, others) : undefined;
  if (covered.length === 0) return { mark, claim: { sends: [], joins: [], rest } };
  const { run, id } = request;
  const waits = mark.waiters.some((waiter) => nameOf(waiter) === nameOf(request));
  const joined = waits ? mark : { ...mark, waiters: [...mark.waiters, { run, id }] };
  return { mark: joined, claim: { sends: [], joins: [{ id, tags: covered, parked }], rest } };
}

/** The tags of a request that a mark is about, and the others. */
function split(request: CopyRequest, mark: Mark): [CopyRequest['tags'], CopyRequest['tags']] {
  const { true: covered = [], false: others = [] } = Object.groupBy(
    request.tags,
    ({ target }) => `${mark.tags.includes(target)}`,
  );
  return [covered, others];
}

function covers({ tags }: Mark, request: CopyRequest): boolean {
  return request.tags.every(({ target }) => tags.includes(target));
}

function restOf(request: CopyRequest, tags: CopyRequest['tags']): CopyRequest {
  const id = hash(`${request.id}\n${tags.map(({ target }) => target).join()}`).slice(0, 24);
  return { ...request, id: `${goesFirst(request) ? beforeOthers : request.kind}-${id}`, tags };
}

async function tellOthers({ waiters }: Mark, told: Set<string>, tell: Tell): Promise<void> {
  for (const waiter of waiters) {
    if (told.has(nameOf(waiter))) continue;
    await tell(waiter);
    told.add(nameOf(waiter));
  }
}

function nameOf({ run, id }: Waiter): string {
  return `${run}/${id}`;
}

/** A delete is for one tag; a request without a digest is told by its tags. */
function keyOf(request: CopyRequest, isFirst = goesFirst(request)): string {
  const { rule, target, digest } = request;
  if (request.kind === 'delete' || digest === undefined) return keyWithTags(request, isFirst);
  return `${prefix}${hash(`${kindOf(request, isFirst)}\n${rule}\n${target}\n${digest}`)}`;
}

function keyWithTags(request: CopyRequest, isFirst = goesFirst(request)): string {
  const { rule, target, digest, tags } = request;
  const names = tags.map((tag) => tag.target).join('\n');
  return `${prefix}${hash(`${kindOf(request, isFirst)}\n${rule}\n${target}\n${digest ?? ''}\n${names}`)}`;
}

/** Who looks below what is equal does more than who does not. */
function kindOf({ kind, force, reason }: CopyRequest, isFirst: boolean): string {
  const depth = force ? ' by force' : reason === lateReferrers ? ` of ${reason}` : '';
  return `${kind}${depth}${isFirst ? ' before others' : ''}`;
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
