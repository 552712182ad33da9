/** What a rule has put there and its source no longer has. When it is deleted, the source decides once more. */
import { summarize } from '../errors.ts';
import { isReferrerTag } from '../oci/reference.ts';
import type { TagEntry } from '../oci/roles.ts';
import { forEachOf } from './concurrency.ts';
import type { PlanLine, Task } from './fan-out.ts';
import type { Listing, Listings } from './listing.ts';
import { nameOf, type TagNames } from './names.ts';
import type { PlanInput } from './planner.ts';
import { matchesNames } from './select.ts';

export interface Pruned {
  readonly lines: readonly PlanLine[];
  readonly tasks: readonly Task[];
}

/**
 * What is to be deleted: nothing after a listing that is not whole, or that shows no tags.
 * @param mirrored target tags that the rule has put there
 */
export async function prune(
  input: PlanInput,
  { source, target }: Listings,
  names: TagNames,
  mirrored: ReadonlySet<string>,
  width: number,
): Promise<Pruned> {
  if (!source.isWhole || !target.isWhole || !hasTags(source)) return { lines: [], tasks: [] };
  const present = [...mirrored].flatMap((tag) => target.get(tag) ?? []);
  const isOwn = ownTags(input, names);
  const gone = present.filter(({ name }) => !source.has(names.source(name)) && isOwn(name));
  if (gone.length > input.pruneLimit * present.length && !input.allowMassDelete) {
    return { lines: [massDelete(input, gone.length, present.length)], tasks: [] };
  }
  const tasks: Task[] = [];
  await forEachOf(gone.entries(), width, async ([index, entry]) => {
    tasks[index] = await taskFor(entry, names.source(entry.name), input);
  });
  const byName = tasks.sort((a, b) => (a.target < b.target ? -1 : 1));
  return {
    lines: byName.map(({ line }) => line),
    tasks: byName.filter(({ line }) => line.outcome === 'delete'),
  };
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

async function taskFor({ name, digest, locked }: TagEntry, source: string, input: PlanInput): Promise<Task> {
  const { rule, sides } = input;
  const base = {
    rule: rule.name,
    source: nameOf(sides.source.name, source),
    target: nameOf(sides.target.name, name),
    ...(digest === undefined ? {} : { digest }),
  };
  const line: PlanLine = { ...base, ...(locked ? lockedTag : await askedOnceMore(source, input)) };
  return { line, source, target: name, digest };
}

const lockedTag = { outcome: 'locked', reason: 'gone at source' } as const;

/** A tag can be hidden by others that go while a listing is read; where people read the plan, that is found out. */
async function askedOnceMore(
  tag: string,
  { confirm, sides, signal }: PlanInput,
): Promise<Pick<PlanLine, 'outcome' | 'reason' | 'error'>> {
  try {
    const there = confirm ? await sides.source.resolve(tag, { signal }) : undefined;
    if (there !== undefined) return { outcome: 'skip', reason: 'the source has it again' };
    return { outcome: 'delete', reason: 'gone at source' };
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
