/** From a plan's lines to the requests that carry them out. */
import type { Digest } from '../../oci/descriptor.ts';
import type { CopyRequest } from '../request.ts';
import type { Line, PlanAction, SyncOutcome } from '../runs/report.ts';
import { tagOf } from '../select/names.ts';
import type { LateReferrers } from './late-referrers.ts';

export type PlanLine = Line<PlanAction>;

/** A line that asks for work, with what a request for it needs. Both names are tags or digests: the source's, and what platforms make of it. */
export interface Task {
  readonly line: PlanLine;
  readonly source: string;
  readonly target: string;
  readonly digest?: Digest | undefined;
}

/** What is out of date between two repositories. */
export interface Plan {
  readonly lines: readonly PlanLine[];
  /** For the lines that say `copy` or `delete`. */
  readonly tasks: readonly Task[];
  /** Absent where the rule leaves them behind. */
  readonly referrers: LateReferrers | undefined;
}

/** How a line ends that asks for no work. */
export const finalOutcomes: Partial<Record<PlanAction, SyncOutcome>> = {
  unchanged: 'unchanged',
  skip: 'skipped',
  locked: 'locked',
  failed: 'failed',
};

export interface FannedOut {
  readonly request: CopyRequest;
  /** Those that the request ends. */
  readonly lines: readonly PlanLine[];
}

export interface FanOut {
  readonly base: Pick<CopyRequest, 'run' | 'rule' | 'source' | 'target' | 'force'>;
  readonly idOf: (kind: string, digest: string, tags: readonly string[]) => string;
}

/** Two names of at most 128 characters a tag: well within a message of 48 KiB. */
const tagsPerRequest = 100;

/** Copy and delete requests, made as they are taken: tags of one digest in one request, each delete in one of its own. */
export function* requestsOf(plan: Plan, fanOut: FanOut): Generator<FannedOut> {
  const copies = plan.tasks.filter(({ line }) => line.outcome === 'copy');
  for (const group of Map.groupBy(copies, ({ digest }) => digest).values()) {
    for (let at = 0; at < group.length; at += tagsPerRequest) {
      yield copyOf(group.slice(at, at + tagsPerRequest), plan.referrers, fanOut);
    }
  }
  for (const task of plan.tasks) if (task.line.outcome === 'delete') yield deleteOf(task, fanOut);
}

function copyOf(
  group: readonly Task[],
  referrers: LateReferrers | undefined,
  { base, idOf }: FanOut,
): FannedOut {
  const tags = group.map(({ source, target }) => ({ source: tagOf(source), target: tagOf(target) }));
  const [first] = group;
  const digest = first?.digest;
  const reason = first?.line.reason ?? '';
  const referrerTags = digest === undefined ? undefined : referrers?.concerning(digest, reason);
  const names = tags.map((tag) => tag.target);
  const request: CopyRequest = {
    ...base,
    kind: 'copy',
    id: idOf('copy', digest ?? '', names),
    tags,
    ...(digest === undefined ? {} : { digest }),
    reason,
    ...(referrerTags === undefined ? {} : { referrerTags }),
    ...(referrerTags !== undefined && referrers?.hasMore ? { moreReferrers: true } : {}),
    attempt: 0,
  };
  return { request, lines: group.map(({ line }) => line) };
}

function deleteOf({ line, source, target, digest }: Task, { base, idOf }: FanOut): FannedOut {
  const request: CopyRequest = {
    ...base,
    kind: 'delete',
    id: idOf('delete', digest ?? '', [target]),
    tags: [{ source, target }],
    ...(digest === undefined ? {} : { digest }),
    reason: line.reason ?? '',
    attempt: 0,
  };
  return { request, lines: [line] };
}
