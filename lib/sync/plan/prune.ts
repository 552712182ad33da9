/** What came from the source and is there no longer, of the tags that a rule means. When it is deleted, the source decides once more. */

import { summarize } from '../../errors.ts';
import { isReferrerTag } from '../../oci/reference.ts';
import type { TagEntry } from '../../oci/roles.ts';
import { forEachOf } from '../concurrency.ts';
import type { Facts } from '../copy/facts.ts';
import { goneReason, whyKept } from '../copy/kept.ts';
import { nameOf, type TagNames } from '../select/names.ts';
import { matchesNames } from '../select/select.ts';
import type { PlanLine, Task } from './fan-out.ts';
import type { Listing, Listings } from './listing.ts';
import type { PlanInput } from './planner.ts';

export interface Pruned {
  /** Source tags that have a line here. */
  readonly named: ReadonlySet<string>;
  readonly lines: readonly PlanLine[];
  readonly tasks: readonly Task[];
}

/** What is to be deleted: nothing after a listing that is not whole, or that shows no tags. */
export async function prune(
  input: PlanInput,
  { source, target }: Listings,
  names: TagNames,
  facts: Facts,
  width: number,
): Promise<Pruned> {
  if (!source.isWhole || !target.isWhole || !hasTags(source)) return nothingPruned;
  const mirrored = await facts.mirrored(input.sides.source.name, input.sides.target.name);
  const isOwn = ownTags(input, names);
  const present = [...mirrored].flatMap((tag) => target.get(tag) ?? []).filter(({ name }) => isOwn(name));
  const isAsked = (tag: string) => input.only === undefined || input.only.includes(tag);
  const candidates = present.filter(({ name }) => {
    const tag = names.source(name);
    return !source.has(tag) && isAsked(tag);
  });
  const { gone, own } = await ownAmong(candidates, names, input, facts, width);
  if (own > input.pruneLimit * present.length && !input.allowMassDelete) {
    return { ...nothingPruned, lines: [massDelete(input, own, present.length)] };
  }
  const tasks: Task[] = [];
  await forEachOf(gone.entries(), width, async ([index, entry]) => {
    tasks[index] = await taskFor(entry, names.source(entry.name), input, facts);
  });
  const byName = tasks.sort((a, b) => (a.target < b.target ? -1 : 1));
  return {
    named: new Set(byName.map((task) => task.source)),
    lines: byName.map(({ line }) => line),
    tasks: byName.filter(({ line }) => line.outcome === 'delete'),
  };
}

export const nothingPruned: Pruned = { named: new Set(), lines: [], tasks: [] };

/** Those that were made of the tag that the rule means, and how many are still what was put there, as far as the listing tells. */
async function ownAmong(
  candidates: readonly TagEntry[],
  names: TagNames,
  { sides }: PlanInput,
  facts: Facts,
  width: number,
): Promise<{ gone: readonly TagEntry[]; own: number }> {
  const gone: TagEntry[] = [];
  let own = 0;
  await forEachOf(candidates, width, async (entry) => {
    const put = await facts.mirroredAs(sides.source.name, sides.target.name, entry.name);
    if (put?.from !== names.source(entry.name)) return;
    gone.push(entry);
    if (entry.digest === undefined || entry.digest === put.digest) own += 1;
  });
  return { gone, own };
}

/** Signatures alone are no listing of what is there. */
function hasTags(listing: Listing): boolean {
  for (const name of listing.names) if (!isReferrerTag(name)) return true;
  return false;
}

/** Whether the rule selects a target tag by its name, and no other rule wants it. */
function ownTags({ rule, claims }: PlanInput, names: TagNames): (tag: string) => boolean {
  const named = matchesNames(rule);
  return (tag) => {
    const others = claims.rival(tag) ?? claims.suspect(tag) ?? claims.keeper(tag);
    return others === undefined && !isReferrerTag(tag) && named(names.source(tag));
  };
}

async function taskFor(entry: TagEntry, source: string, input: PlanInput, facts: Facts): Promise<Task> {
  const { name, digest } = entry;
  const { rule, sides } = input;
  const base = {
    rule: rule.name,
    source: nameOf(sides.source.name, source),
    target: nameOf(sides.target.name, name),
    ...(digest === undefined ? {} : { digest }),
  };
  return {
    line: { ...base, ...(await verdictOn(entry, source, input, facts)) },
    source,
    target: name,
    digest,
  };
}

/** Where people read the plan, what the one who deletes would find is found out now. */
async function verdictOn(
  { name, locked }: TagEntry,
  source: string,
  { confirm, rule, sides, signal }: PlanInput,
  facts: Facts,
): Promise<Pick<PlanLine, 'outcome' | 'reason' | 'error'>> {
  if (locked) return { outcome: 'locked', reason: goneReason };
  try {
    const reason = confirm ? await whyKept({ source, target: name }, rule, sides, facts, signal) : undefined;
    return reason === undefined ? { outcome: 'delete', reason: goneReason } : { outcome: 'skip', reason };
  } catch (error) {
    signal.throwIfAborted();
    return { outcome: 'failed', error: summarize(error) };
  }
}

function massDelete({ rule, sides }: PlanInput, gone: number, present: number): PlanLine {
  const message = `Prune would delete ${gone} of ${present} tags of ${sides.target.name}, more than its share`;
  return {
    rule: rule.name,
    source: sides.source.name,
    target: sides.target.name,
    outcome: 'failed',
    error: { code: 'ERR_MASS_DELETE', message },
  };
}
