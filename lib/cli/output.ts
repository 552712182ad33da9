/** Reports for people: what needs a look is listed, the rest counted, failures are grouped with their remedy. */
import { ConfigError, type ErrorCode, errorCodes, redact, summarize } from '../errors.ts';
import { escapeControls } from '../log.ts';
import type { AnyReport, Line } from '../sync/runs/report.ts';
import { countsOf } from './documents.ts';
import {
  type Color,
  formatBytes,
  formatCount,
  formatDuration,
  formatTime,
  type Paint,
  plural,
} from './format.ts';

export interface View {
  readonly paint: Paint;
  /** The most lines shown for one rule and outcome, or one failure; all where no person scrolls. */
  readonly most: number;
}

/** A report of plan, sync or verify. */
export function renderReport(report: AnyReport, view: View): string {
  const rules = Map.groupBy<string, Line>(report.tags, ({ rule }) => rule);
  return [
    ...[...rules].map(([rule, lines]) => renderRule(rule, lines, view)),
    renderFailures(report.tags, view),
    renderTotals(report, view.paint),
  ].join('');
}

/** Outcomes that are counted, where every line of them says the same. `failed` has its own part. */
const counted = new Set([
  'copied',
  'deleted',
  'unchanged',
  'skipped',
  'superseded',
  'skip',
  'same',
  'failed',
]);

const colors: ReadonlyMap<string, Color> = new Map([
  ['copy', 'green'],
  ['copied', 'green'],
  ['delete', 'yellow'],
  ['deleted', 'yellow'],
  ['deferred', 'yellow'],
  ['locked', 'yellow'],
  ['extra', 'yellow'],
  ['moved', 'red'],
  ['missing', 'red'],
  ['incomplete', 'red'],
  ['failed', 'red'],
]);

function renderRule(rule: string, lines: readonly Line[], view: View): string {
  const byOutcome = Map.groupBy(lines, ({ outcome }) => outcome);
  const listed = [...byOutcome].filter(([outcome]) => !counted.has(outcome));
  const sums = [...byOutcome].filter(([outcome]) => counted.has(outcome));
  return [
    `${view.paint('bold', escapeControls(rule))}\n`,
    ...listed.map(([outcome, members]) => renderRows(outcome, members, view)),
    ...sums.map(([outcome, members]) => renderSums(outcome, members, view.paint)),
    '\n',
  ].join('');
}

function renderRows(outcome: string, lines: readonly Line[], { paint, most }: View): string {
  const shown = lines.slice(0, most);
  const pairs = shown.map(pairOf);
  const width = Math.min(
    100,
    pairs.reduce((widest, pair) => Math.max(widest, pair.length), 0),
  );
  const rows = shown.map((line, index) => {
    const detail = escapeControls(detailOf(line));
    const pair = pairs[index] ?? '';
    return `  ${word(outcome, paint)}  ${detail === '' ? pair : `${pair.padEnd(width)}  ${detail}`}\n`;
  });
  return rows.join('') + renderRest(lines.length - shown.length, 2);
}

function renderSums(outcome: string, lines: readonly Line[], paint: Paint): string {
  const byReason = Map.groupBy(lines, ({ reason }) => (outcome === 'failed' ? undefined : reason));
  return [...byReason]
    .map(([reason, members]) => {
      const why = reason === undefined || reason === outcome ? '' : `: ${escapeControls(redact(reason))}`;
      return `  ${word(outcome, paint)}  ${plural(members.length, outcome === 'failed' ? 'line' : 'tag')}${why}\n`;
    })
    .join('');
}

function word(outcome: string, paint: Paint): string {
  const color = colors.get(outcome);
  const padded = outcome.padEnd(10);
  return color === undefined ? padded : paint(color, padded);
}

function pairOf({ source, target }: Line): string {
  return escapeControls(`${source} -> ${target}`);
}

function detailOf(line: Line): string {
  const { reason, digest, targetDigest, missing = [], until, error } = line;
  return [
    reason && redact(reason),
    digest &&
      targetDigest &&
      `${shortDigest(digest)} at the source, ${shortDigest(targetDigest)} at the target`,
    missing.length > 0 && `misses ${missing.slice(0, 3).map(shortDigest).join(', ')}`,
    missing.length > 3 && `and ${formatCount(missing.length - 3)} more`,
    until && `until ${formatTime(until)}`,
    error && redact(error.message),
  ]
    .filter(Boolean)
    .join(', ');
}

function shortDigest(digest: string): string {
  const colon = digest.indexOf(':');
  return digest.slice(0, colon + 13);
}

/** Failed lines by their code, each code with its meaning and remedy. */
export function renderFailures(lines: readonly Line[], { paint, most }: View): string {
  const failed = lines.filter(({ outcome }) => outcome === 'failed');
  const byCode = Map.groupBy(failed, ({ error }) => error?.code ?? 'ERR_INTERNAL');
  return [...byCode].map(([code, members]) => renderFailure(code, members, { paint, most })).join('');
}

function renderFailure(code: string, lines: readonly Line[], { paint, most }: View): string {
  const { meaning, remedy } = factsOf(code);
  const shown = lines.slice(0, most);
  return [
    `${paint('red', escapeControls(code))}  ${meaning} ${remedy}\n`,
    ...shown.map(
      (line) => `  ${pairOf(line)}: ${escapeControls(redact(line.error?.message ?? 'no message'))}\n`,
    ),
    renderRest(lines.length - shown.length, 2),
    '\n',
  ].join('');
}

/** A report of another version may have a code that is not known here. */
function factsOf(code: string): { meaning: string; remedy: string } {
  return Object.hasOwn(errorCodes, code)
    ? errorCodes[code as ErrorCode]
    : { meaning: 'This version does not know the code.', remedy: 'Update hubferry.' };
}

function renderRest(count: number, indent: number): string {
  return count > 0 ? `${' '.repeat(indent)}and ${formatCount(count)} more; --json tells them all\n` : '';
}

function renderTotals({ run, totals }: AnyReport, paint: Paint): string {
  const took =
    run.finishedAt === undefined ? undefined : Date.parse(run.finishedAt) - Date.parse(run.startedAt);
  const sentences = [
    totals.tags === 0 ? 'No tag was selected.' : `${capitalize(renderCounts(totals))}.`,
    `${renderTransfer(totals)}${took === undefined ? '' : ` in ${formatDuration(took)}`}.`,
    run.interrupted === true ? 'Interrupted: run again, it goes on where it stood.' : '',
  ];
  return `${paint('bold', sentences.filter(Boolean).join(' '))}\n`;
}

/** `3 copied, 197 unchanged`: what is not zero, in the order of the report. */
export function renderCounts(totals: AnyReport['totals']): string {
  const counts = countsOf(totals)
    .filter(([, count]) => count > 0)
    .map(([outcome, count]) => `${formatCount(count)} ${outcome}`);
  return counts.join(', ') || 'no tag';
}

function renderTransfer(totals: AnyReport['totals']): string {
  const { bytesCopied, blobsCopied, blobsMounted, requests, pulls } = totals;
  return [
    bytesCopied > 0 && formatBytes(bytesCopied),
    blobsCopied > 0 && `${plural(blobsCopied, 'blob')} copied`,
    blobsMounted > 0 && `${plural(blobsMounted, 'blob')} mounted`,
    plural(requests.source + requests.target, 'request'),
    plural(pulls, 'pull'),
  ]
    .filter(Boolean)
    .join(', ');
}

function capitalize(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** An error as people read it, on standard error: where, what, and what to do about it. */
export function renderError(error: unknown, paint: Paint): string {
  const { code, message } = summarize(error);
  const place = error instanceof ConfigError ? error.where : '';
  return [
    `${paint('red', 'hubferry:')} ${escapeControls(`${place}${message}`)}\n`,
    `  ${code}: ${errorCodes[code].remedy}\n`,
  ].join('');
}
