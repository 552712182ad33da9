/** What `--json` puts on standard output: one document on every exit, with the same keys and no others. */
import { ConfigError, redact, summarize } from '../errors.ts';
import { escapeJson } from '../log.ts';
import {
  type AnyReport,
  type Line,
  planActions,
  type RunHeader,
  syncOutcomes,
  verifyFindings,
} from '../sync/runs/report.ts';
import type { RunSummary } from '../sync/runs/runs.ts';
import type { Finding } from './engine.ts';
import { remedyOf } from './findings.ts';

/** A document: what is an iterator in it is a list that is made while it is written. */
export type Document = Readonly<Record<string, unknown>>;

/** Pieces of text are put together up to this length. */
const pieceLength = 64 * 1024;

/** A document as text, in pieces, since there may be 100,000 lines: indented, without a raw control character. */
export function* formatDocument(document: Document): Generator<string> {
  let piece = '';
  for (const part of partsOf(document)) {
    piece += part;
    if (piece.length < pieceLength) continue;
    yield piece;
    piece = '';
  }
  yield piece;
}

function* partsOf(document: Document): Generator<string> {
  let before = '{';
  for (const [key, value] of Object.entries(document)) {
    if (value === undefined) continue;
    yield `${before}\n  ${JSON.stringify(key)}: `;
    if (value instanceof Iterator) yield* listOf(value);
    else yield indented(value, 2);
    before = ',';
  }
  yield '\n}\n';
}

function* listOf(items: Iterable<unknown>): Generator<string> {
  let before = '[';
  for (const item of items) {
    yield `${before}\n    ${indented(item, 4)}`;
    before = ',';
  }
  yield before === '[' ? '[]' : '\n  ]';
}

function indented(value: unknown, by: number): string {
  const text = JSON.stringify(value, undefined, 2).replaceAll('\n', `\n${' '.repeat(by)}`);
  return escapeJson(text);
}

export function reportDocument(report: AnyReport): Document {
  return {
    run: runDocument(report.run),
    totals: totalsDocument(report.totals),
    tags: report.tags.values().map(lineDocument),
  };
}

/** The last runs, each with what did not end well in it. */
export function runsDocument(runs: readonly RunSummary[]): Document {
  return {
    runs: runs.map(({ run, totals, failures }) => ({
      run: runDocument(run),
      totals: totalsDocument(totals),
      failures: failures.map(lineDocument),
    })),
  };
}

export function findingsDocument(findings: readonly Finding[]): Document {
  return {
    findings: findings.map((finding) => ({
      check: finding.check,
      status: finding.status,
      message: redact(finding.message),
      code: finding.code,
      remedy: remedyOf(finding),
    })),
  };
}

/** Instead of a result: exit 2, and what else leaves no report. */
export function errorDocument(error: unknown): Document {
  const { file, line, path } = error instanceof ConfigError ? error : {};
  return { error: { ...summarize(error), file, line, path } };
}

function runDocument({ id, trigger, startedAt, finishedAt, interrupted = false }: RunHeader): unknown {
  return { id, trigger, startedAt, finishedAt, interrupted };
}

function totalsDocument(totals: AnyReport['totals']): unknown {
  const { bytesCopied, blobsCopied, blobsMounted, blobsExisting, requests, pulls } = totals;
  return {
    tags: totals.tags,
    ...Object.fromEntries(countsOf(totals)),
    bytesCopied,
    blobsCopied,
    blobsMounted,
    blobsExisting,
    requests: { source: requests.source, target: requests.target },
    pulls,
  };
}

/** How many lines have each outcome, in the order of the words of this kind of report. */
export function countsOf(totals: AnyReport['totals']): readonly (readonly [string, number])[] {
  const counters = new Map<string, unknown>(Object.entries(totals));
  const words: readonly string[] =
    [syncOutcomes, verifyFindings].find(([first]) => counters.has(first)) ?? planActions;
  return words.map((word) => [word, Number(counters.get(word) ?? 0)]);
}

function lineDocument(line: Line): unknown {
  const { reason, error } = line;
  return {
    rule: line.rule,
    source: line.source,
    target: line.target,
    digest: line.digest,
    targetDigest: line.targetDigest,
    outcome: line.outcome,
    reason: reason === undefined ? undefined : redact(reason),
    error: error === undefined ? undefined : { code: error.code, message: redact(error.message) },
    until: line.until,
    missing: line.missing,
    bytes: line.bytes,
    startedAt: line.startedAt,
    durationMs: line.durationMs,
  };
}
