/** What the page knows of the mirror: the newest status, and the reports behind it. */
import { codeOf } from '../errors.ts';
import type { RunReport, StatusAnswer } from './answers.ts';
import { type Api, WrongKey } from './api.ts';
import { Speeds } from './speeds.ts';
import { lastWords, runsToRead, type TagLine } from './standing.ts';

export class Mirror {
  readonly status: StatusAnswer;
  readonly reports: ReadonlyMap<string, RunReport>;
  readonly speeds: Speeds;
  /** The last word on each tag. */
  readonly lines: readonly TagLine[];
  /** Why a report could not be read; what stands in the others is shown all the same. */
  readonly problem: unknown;

  constructor(
    status: StatusAnswer,
    reports: ReadonlyMap<string, RunReport>,
    speeds: Speeds,
    problem: unknown,
  ) {
    this.problem = problem;
    this.status = status;
    this.reports = reports;
    this.speeds = speeds;
    const known = new Set([...runsToRead(status.runs).map(({ run }) => run.id), ...status.openRuns]);
    this.lines = lastWords([...reports.values()].filter(({ run }) => known.has(run.id)));
  }

  /**
   * Asks anew. Reports of finished runs never change, so those that are known already are not asked for again.
   * @param opened the run that the reader looks at
   */
  static async read(api: Api, before: Mirror | undefined, opened: string | undefined): Promise<Mirror> {
    const status = await api.status();
    const speeds = before?.speeds ?? new Speeds();
    speeds.take(status.copying ?? []);
    const reports = new Map<string, RunReport>();
    const wanted = new Set([
      ...status.openRuns,
      ...runsToRead(status.runs).map(({ run }) => run.id),
      ...(opened === undefined ? [] : [opened]),
    ]);
    let problem: unknown;
    const read = async (id: string) => {
      const known = before?.reports.get(id);
      try {
        const report = known?.run.finishedAt === undefined ? await readReport(api, id) : known;
        if (report !== undefined) reports.set(id, report);
      } catch (error) {
        if (error instanceof WrongKey) throw error;
        problem = error;
        if (known !== undefined) reports.set(id, known);
      }
    };
    await Promise.all([...wanted].map(read));
    return new Mirror(status, reports, speeds, problem);
  }
}

/** `undefined` for a run that is not there, or no more. */
async function readReport(api: Api, id: string): Promise<RunReport | undefined> {
  try {
    return await api.report(id);
  } catch (error) {
    if (codeOf(error) === 'ERR_RUN_UNKNOWN') return undefined;
    throw error;
  }
}
