/** What a run's JSON document says, for the job's page and for the steps that follow. */
import * as z from 'zod';

const countSchema = z.number().default(0);
const lineSchema = z.object({
  outcome: z.string(),
  source: z.string(),
  target: z.string(),
  reason: z.string().optional(),
  until: z.string().optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
});
const reportSchema = z.object({
  run: z.object({ startedAt: z.string(), finishedAt: z.string(), interrupted: z.boolean().default(false) }),
  totals: z.object({
    tags: countSchema,
    copied: countSchema,
    unchanged: countSchema,
    deleted: countSchema,
    skipped: countSchema,
    superseded: countSchema,
    deferred: countSchema,
    locked: countSchema,
    failed: countSchema,
    bytesCopied: countSchema,
    pulls: countSchema,
  }),
  tags: z.array(lineSchema),
});
const refusalSchema = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    file: z.string().optional(),
    line: z.number().optional(),
    path: z.string().optional(),
  }),
});
type Report = z.infer<typeof reportSchema>;
type Line = z.infer<typeof lineSchema>;

export interface Summary {
  readonly markdown: string;
  readonly outputs: Readonly<Record<'duration' | 'copied' | 'failed' | 'deferred', number>>;
}

/** More lines than these do not help on a page that takes one megabyte. */
const mostLines = 200;

/** Reads standard output of `hubferry sync --json`, which holds one document whatever happened. */
export function summarize(stdout: string): Summary {
  const document = parseJson(stdout);
  const report = reportSchema.safeParse(document);
  if (report.success) return summarizeReport(report.data);
  const refusal = refusalSchema.safeParse(document);
  return {
    markdown: refusal.success
      ? refusalPage(refusal.data)
      : '## hubferry ended without a report\n\nSee its log.\n',
    outputs: { duration: 0, copied: 0, failed: 0, deferred: 0 },
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function summarizeReport(report: Report): Summary {
  const { run, totals } = report;
  const seconds = Math.round((Date.parse(run.finishedAt) - Date.parse(run.startedAt)) / 1000);
  const { copied, failed, deferred } = totals;
  return { markdown: reportPage(report, seconds), outputs: { duration: seconds, copied, failed, deferred } };
}

function reportPage({ run, totals, tags }: Report, seconds: number): string {
  const { bytesCopied, pulls, tags: all, ...outcomes } = totals;
  const told = Object.entries(outcomes).filter(([, count]) => count > 0);
  const words = told.map(([outcome, count]) => `${count} ${outcome}`).join(', ') || 'nothing to do';
  const mebibytes = (bytesCopied / 1024 ** 2).toFixed(1);
  return [
    `## hubferry: ${words}${run.interrupted ? ' (interrupted)' : ''}`,
    '',
    `${all} tags, ${mebibytes} MiB copied, ${pulls} pulls, ${seconds} s.`,
    '',
    ...lineTable('Failed', tags, 'failed'),
    ...lineTable('Deferred', tags, 'deferred'),
    ...lineTable('Locked', tags, 'locked'),
    ...lineTable('Copied', tags, 'copied'),
  ].join('\n');
}

function lineTable(title: string, tags: readonly Line[], outcome: string): string[] {
  const lines = tags.filter((line) => line.outcome === outcome);
  if (lines.length === 0) return [];
  const rest = lines.length - mostLines;
  return [
    `### ${title}`,
    '',
    '| source | target | why |',
    '| --- | --- | --- |',
    ...lines
      .slice(0, mostLines)
      .map((line) => `| ${[line.source, line.target, why(line)].map(cell).join(' | ')} |`),
    ...(rest > 0 ? ['', `and ${rest} more.`] : []),
    '',
  ];
}

function why({ error, reason = '', until }: Line): string {
  if (error !== undefined) return `${error.code}: ${error.message}`;
  return until === undefined ? reason : `${reason}, until ${until}`;
}

function refusalPage({ error }: z.infer<typeof refusalSchema>): string {
  const place = [error.file, error.line, error.path].filter((part) => part !== undefined).join(':');
  return `## hubferry: nothing was done\n\n${cell(place)} ${cell(error.code)}: ${cell(error.message)}\n`;
}

/** Names and messages come from registries: nothing in them may be Markdown or HTML. */
function cell(text: string | number): string {
  return String(text).replace(/[^\p{L}\p{N} .:/@,-]/gu, (character) => `&#${character.codePointAt(0)};`);
}
