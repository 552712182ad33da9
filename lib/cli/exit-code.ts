/** The exit statuses of the README, as functions of what a run reported. */
import { ConfigError, codeOf } from '../errors.ts';
import type { Line, PlanAction, Report, SyncOutcome, VerifyFinding } from '../sync/runs/report.ts';
import { interruptedExitCode } from './interrupt.ts';

/** 1 when a tag failed, is deferred, or is locked and differs. */
export function exitCodeOfSync(report: Report<SyncOutcome>): number {
  return exitCodeOf(report, (line) => {
    if (line.outcome === 'locked') return isOutOfStep(line);
    return line.outcome === 'failed' || line.outcome === 'deferred';
  });
}

/** 1 when a line failed, or is locked and differs; with `--exit-code` also when something is to be done. */
export function exitCodeOfPlan(report: Report<PlanAction>, exitCode: boolean): number {
  return exitCodeOf(report, (line) => {
    if (line.outcome === 'locked') return isOutOfStep(line);
    if (line.outcome === 'failed') return true;
    return exitCode && (line.outcome === 'copy' || line.outcome === 'delete');
  });
}

/** 1 for everything but `same`; for `extra` only where the rule prunes. */
export function exitCodeOfVerify(report: Report<VerifyFinding>, prunes: (rule: string) => boolean): number {
  return exitCodeOf(report, (line) => {
    if (line.outcome === 'extra') return prunes(line.rule);
    return line.outcome !== 'same';
  });
}

/** 130 for an interrupt, 2 for what could be known without a request, else 1. */
export function exitCodeOfError(error: unknown): number {
  if (codeOf(error) === 'ERR_INTERRUPTED') return interruptedExitCode;
  return error instanceof ConfigError ? 2 : 1;
}

function exitCodeOf<Outcome extends string>(
  report: Report<Outcome>,
  isBad: (line: Line<Outcome>) => boolean,
): number {
  if (report.run.interrupted === true) return interruptedExitCode;
  return report.tags.some(isBad) ? 1 : 0;
}

/** A locked line whose digests differ, or that says by its error that the tag could not be made. */
function isOutOfStep({ digest, targetDigest, error }: Line): boolean {
  return (
    error !== undefined || (digest !== undefined && targetDigest !== undefined && digest !== targetDigest)
  );
}
