/** What `GET /api/status` and `GET /api/status/{run}` answer: the README describes the same, and a test compares them. */
import * as z from 'zod';
import { type ErrorCode, errorCodes } from '../../errors.ts';
import { triggers } from './report.ts';

const count = z.int().min(0);
const time = z.iso.datetime();
const code = z.enum(Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]]);
const error = z.strictObject({ code, message: z.string() });

const run = z.strictObject({
  id: z.string(),
  trigger: z.enum(triggers),
  startedAt: time,
  finishedAt: time.optional(),
  interrupted: z.boolean().optional(),
  cancelled: z.boolean().optional(),
  dryRun: z.boolean().optional(),
  partial: z.boolean().optional(),
});

const line = z.strictObject({
  rule: z.string(),
  source: z.string(),
  target: z.string(),
  digest: z.string().optional(),
  targetDigest: z.string().optional(),
  outcome: z.string(),
  reason: z.string().optional(),
  error: error.optional(),
  until: time.optional(),
  missing: z.array(z.string()).optional(),
  bytes: count.optional(),
  startedAt: time.optional(),
  durationMs: z.number().optional(),
});

/** With a counter for each outcome. */
const totals = z
  .object({
    tags: count,
    bytesCopied: count,
    blobsCopied: count,
    blobsMounted: count,
    blobsExisting: count,
    requests: z.strictObject({ source: count, target: count }),
    pulls: count,
  })
  .catchall(count);

const blobTime = z.strictObject({
  target: z.string(),
  digest: z.string(),
  size: count,
  durationMs: z.number(),
});

const ruleTotals = z.strictObject({
  rule: z.string(),
  tags: count,
  bytes: count,
  outcomes: z.record(z.string(), count),
});

const cause = z.strictObject({
  code,
  /** The first of them. */
  message: z.string(),
  remedy: z.string(),
  tags: count,
  /** Some of the targets. */
  examples: z.array(z.string()),
});

const overview = z.strictObject({
  run,
  totals,
  /** Docker Hub's allowance at the end, as low as it got. */
  pullsLeft: z.number().optional(),
  bytesPerSecond: count.optional(),
  /** Those in which something happened. */
  rules: z.array(ruleTotals),
  causes: z.array(cause),
  longestBlobs: z.array(blobTime),
  failures: z.array(line),
});

const openRun = z.strictObject({
  run,
  /** `stuck`: for an hour nothing was heard of what is out. */
  state: z.enum(['working', 'waiting', 'paused', 'stuck']),
  /** When something was heard of it the last time. */
  since: time,
  why: z.string(),
  /** Requests that are queued or under way, and that are parked. */
  out: count,
  parked: count,
  /** Targets of the first that are out. */
  examples: z.array(z.string()),
});

const parked = z.strictObject({
  count,
  /** When the first comes back; none while people have paused everything. */
  next: time.optional(),
  /** By reason, of the first hundred. */
  groups: z.array(
    z.strictObject({
      reason: z.string(),
      count,
      /** When the last comes back; absent where people have to let it go on, or where its time has come. */
      until: time.optional(),
      examples: z.array(z.string()),
    }),
  ),
});

const copying = z.strictObject({
  target: z.string(),
  digest: z.string(),
  size: count,
  /** Bytes that the target has confirmed. */
  offset: count,
  /** When it did, in milliseconds since the epoch. */
  savedAt: z.number(),
});

const trafficHour = z.strictObject({
  /** When the hour begins. */
  from: time,
  runs: count,
  /** Tags. */
  copied: count,
  bytes: count,
  pulls: count,
});

export const statusSchema = z.strictObject({
  paused: z.boolean(),
  pausedSince: time.optional(),
  /** Why the newest rules are not in force. */
  rulesError: error.optional(),
  openRuns: z.array(z.string()),
  open: z.array(openRun),
  copying: z.array(copying),
  parked,
  /** The last runs of each trigger, the newest first. */
  runs: z.array(overview),
  /** What all runs moved in the last thirty days, by the hour in which they began, the oldest first. */
  traffic: z.array(trafficHour),
});

export const reportSchema = z.strictObject({
  run,
  totals,
  pullsLeft: z.number().optional(),
  longestBlobs: z.array(blobTime).optional(),
  tags: z.array(line),
});

/** What `GET /api/status/pushes` answers. */
export const pushesSchema = reportSchema.extend({
  /** The last run that looked at every tag. */
  full: z.string().optional(),
  /** Runs that ended since it began and are not in here. */
  others: z.array(z.string()),
  /** Not so where more went wrong, or more of those runs ended, than is kept. */
  complete: z.boolean(),
});
