/** Reports as the tests of the command line need them. */
import {
  type Line,
  type PlanAction,
  planActions,
  type Report,
  type RunHeader,
  type SyncOutcome,
  syncOutcomes,
  type VerifyFinding,
  verifyFindings,
} from '../../../lib/sync/runs/report.ts';
import { noTransfer } from '../../../lib/sync/runs/tally.ts';

export const digestA = `sha256:${'a'.repeat(64)}`;
export const digestB = `sha256:${'b'.repeat(64)}`;

const run: RunHeader = {
  id: 'r1',
  trigger: 'cli',
  startedAt: '2026-01-31T12:00:00.000Z',
  finishedAt: '2026-01-31T12:00:34.000Z',
  interrupted: false,
};

export function lineOf<Outcome extends string>(outcome: Outcome, fields: Partial<Line> = {}): Line<Outcome> {
  return { rule: 'app', source: 'docker.io/a/b:1', target: 'x.azurecr.io/b:1', ...fields, outcome };
}

export const syncReport = (tags: readonly Line<SyncOutcome>[], header: Partial<RunHeader> = {}) =>
  reportOf(syncOutcomes, tags, header);
export const planReport = (tags: readonly Line<PlanAction>[], header: Partial<RunHeader> = {}) =>
  reportOf(planActions, tags, header);
export const verifyReport = (tags: readonly Line<VerifyFinding>[], header: Partial<RunHeader> = {}) =>
  reportOf(verifyFindings, tags, header);

function reportOf<Outcome extends string>(
  outcomes: readonly Outcome[],
  tags: readonly Line<Outcome>[],
  header: Partial<RunHeader>,
): Report<Outcome> {
  const counts = outcomes.map((outcome) => [outcome, tags.filter((line) => line.outcome === outcome).length]);
  const totals = { tags: tags.length, ...Object.fromEntries(counts), ...noTransfer() };
  return { run: { ...run, ...header }, totals, tags };
}
