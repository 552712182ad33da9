/** The queue messages, checked at the door: a request is a hint, never a command (README.md, promise 2). */
import * as z from 'zod';
import { isRepositoryName } from '../oci/reference.ts';
import { idShape } from './run-id.ts';

const name = z.string().min(1).max(512);
const repository = name.refine(isRepositoryName, 'not a repository');
const id = z.string().regex(idShape);
const run = id;
const tag = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/);
const digest = z.templateLiteral([z.string().regex(/[a-z0-9]+/), ':', z.string().regex(/[A-Fa-f0-9]+/)]);

/** Tags that are named in one plan request: names of at most 128 characters, well within a message of 48 KiB. */
export const tagsPerPlan = 300;

/** Lists both sides of a rule from a cursor on, and fans the difference out. */
export const planRequestSchema = z.strictObject({
  kind: z.literal('plan'),
  /** Names this request within its run; a part that it writes carries it. */
  id,
  run,
  rule: name,
  /** For a namespace rule: the repository that stands for `*`. Absent: the first request, which becomes one for each repository. */
  repository: name.refine((path) => isRepositoryName(`docker.io/${path}`), 'not a repository').optional(),
  /** Only these tags, where given. */
  tags: z.array(tag).max(1000).optional(),
  /** Only this target repository, where given. */
  target: repository.optional(),
  /** Compare down to every blob, and change nothing. */
  verify: z.boolean().default(false),
  dryRun: z.boolean().default(false),
  force: z.boolean().default(false),
  allowMassDelete: z.boolean().default(false),
  /** Where its copies go: what people ask for by hand is never behind the backlog. */
  lane: z.enum(['push', 'copy']).default('copy'),
  /** The push that it is to find; `looks` says how often that was tried. */
  push: z.strictObject({ tag, pushedAt: z.number(), looks: z.int().min(0).default(0) }).optional(),
  /** Where the plan goes on: the prefix of state documents. */
  cursor: name.optional(),
  attempt: z.int().min(0).default(0),
});
export type PlanRequest = z.infer<typeof planRequestSchema>;

/** One digest of one source repository to one target repository, with all its tags; or the delete of one target tag. */
export const copyRequestSchema = z.strictObject({
  kind: z.enum(['copy', 'delete']),
  id,
  run,
  rule: name,
  source: repository,
  target: repository,
  /** Pairs of source tag and target tag. Both empty for a source given by digest without target tag. */
  tags: z
    .array(z.strictObject({ source: tag.or(z.literal('')), target: tag.or(z.literal('')) }))
    .min(1)
    .max(200),
  /** As the plan or the push saw it. Absent in a push: the copier resolves. */
  digest: digest.optional(),
  reason: name,
  /** Referrer tags of the source that may concern the digest; absent: nobody looked for any. */
  referrerTags: z
    .array(z.strictObject({ tag, digest: digest.optional() }))
    .max(200)
    .optional(),
  /** There may be more of them: they were not read from a whole listing. */
  moreReferrers: z.literal(true).optional(),
  force: z.boolean().default(false),
  /** When the push was told, in milliseconds since the epoch; measures push to mirror. */
  pushedAt: z.number().optional(),
  /** How often a push that the source did not show was looked for. */
  looks: z.int().min(0).optional(),
  /** Absent in a first attempt: the most bytes of it that the target had when one began. Where that is more now, attempts count anew. */
  kept: z.int().min(0).optional(),
  attempt: z.int().min(0).default(0),
});
export type CopyRequest = z.infer<typeof copyRequestSchema>;

/** Begins the names of requests that go by the backlog. */
export const beforeOthers = 'push';

/** Whether a request goes by the backlog: what was pushed, and what people ask for by hand. Its name tells. */
export function goesFirst({ id }: CopyRequest): boolean {
  return id.startsWith(`${beforeOthers}-`);
}

/** Sends what an opener wrote into the book: after a flood one message stands for many. */
export const fanOutRequestSchema = z.strictObject({
  kind: z.literal('fan-out'),
  /** The opener. */
  id,
  run,
});
export type FanOutRequest = z.infer<typeof fanOutRequestSchema>;

/** What is never behind the backlog. */
export const pushRequestSchema = z.discriminatedUnion('kind', [copyRequestSchema, fanOutRequestSchema]);
