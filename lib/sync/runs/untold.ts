/**
 * Ends that no open run waits for, as after days of waiting for an allowance: those of an hour are told together, by a run of
 * the trigger that had asked for them. It looked at single tags alone, and closes when its hour is over.
 */

import type { CopyRequest } from '../request.ts';
import { newRunId, parseRunId } from '../run-id.ts';
import { idFrom } from '../select/names.ts';
import { clockSkewMs } from '../shared-time.ts';
import type { Opening, RunBook } from './book.ts';
import type { Part } from './parts.ts';

const hourMs = 3600_000;
const name = 'late';
/** What sends copy requests; a run whose name tells none of them is taken for one by hand. */
const triggers = ['schedule', 'webhook', 'manual'] as const;

/** However often it is told within the hour, the first end stands. */
export async function tellUntold(book: RunBook, request: CopyRequest, part: Omit<Part, 'id'>): Promise<void> {
  const late = lateRun(request.run, new Date());
  // The run first: what is written after it is told, also where whoever writes it is killed.
  await book.open({ ...late, opener: name, start: () => ({ opened: [], sends: [] }) });
  await book.open({ ...late, opener: endOf(request), start: () => part });
}

function lateRun(asker: string, startedAt: Date): Omit<Opening, 'opener' | 'start'> {
  const trigger = triggers.find((one) => one === parseRunId(asker)?.trigger) ?? 'manual';
  const from = Math.floor(startedAt.getTime() / hourMs) * hourMs;
  const run = newRunId(new Date(from), trigger, name);
  // Who has chosen this run may be slow, or his clock behind.
  return { run, trigger, startedAt, partial: true, sharedUntil: from + hourMs + clockSkewMs };
}

/** Requests of two runs may have one name. */
function endOf({ run, id }: CopyRequest): string {
  return `end-${idFrom(run, id)}`;
}
