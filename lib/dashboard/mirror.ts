/** What the page knows of the mirror: the newest status, and the reports behind it. */
import { codeOf } from '../errors.ts';
import type { PushesReport, RunReport, StatusAnswer } from './answers.ts';
import { type Api, WrongKey } from './api.ts';
import { Speeds } from './speeds.ts';
import { lastWords, openShown, runsToRead, type TagLine } from './standing.ts';

/** The report of what pushes said. */
const pushesId = 'pushes';

export class Mirror {
  readonly status: StatusAnswer;
  readonly reports: ReadonlyMap<string, RunReport>;
  readonly speeds: Speeds;
  /** The last word on each tag. */
  readonly lines: readonly TagLine[];
  /** Whether reports are missing that may tell otherwise. */
  readonly untold: boolean;
  /** Why a report could not be read; what stands in the others is shown all the same. */
  readonly problem: unknown;

  constructor(status: StatusAnswer, { reports, problem }: Reading, speeds: Speeds) {
    this.problem = problem;
    this.status = status;
    this.reports = reports;
    this.speeds = speeds;
    const pushes = reports.get(pushesId) as PushesReport | undefined;
    const closed = closedRuns(status, pushes);
    const known = new Set([pushesId, ...closed, ...openShown(status)]);
    this.lines = lastWords([...reports.values()].filter(({ run }) => known.has(run.id)));
    const isWhole = pushes?.complete === true && closed.every((run) => reports.has(run));
    this.untold = status.runs.length > 0 && !isWhole;
  }

  /**
   * Asks anew. Reports of finished runs never change, so those that are known already are not asked for again.
   * @param opened the run that the reader looks at
   */
  static async read(api: Api, before: Mirror | undefined, opened: string | undefined): Promise<Mirror> {
    const status = await api.status();
    const speeds = before?.speeds ?? new Speeds();
    speeds.take(status.copying ?? []);
    const reading = new Reading(api, before);
    // Without runs there is nothing to be said of any.
    if (status.runs.length > 0) await reading.read(pushesId);
    const pushes = reading.reports.get(pushesId) as PushesReport | undefined;
    const more = opened === undefined ? [] : [opened];
    const wanted = new Set([...openShown(status), ...closedRuns(status, pushes), ...more]);
    await Promise.all([...wanted].map((run) => reading.read(run)));
    return new Mirror(status, reading, speeds);
  }
}

/** The finished runs whose reports, with what pushes said, together tell of every tag; without that, of as many as they can. */
function closedRuns({ runs }: StatusAnswer, pushes: PushesReport | undefined): readonly string[] {
  if (pushes === undefined) return runsToRead(runs).map(({ run }) => run.id);
  return [...(pushes.full === undefined ? [] : [pushes.full]), ...pushes.others];
}

class Reading {
  readonly reports = new Map<string, RunReport>();
  problem: unknown;
  readonly #api: Api;
  readonly #before: Mirror | undefined;

  constructor(api: Api, before: Mirror | undefined) {
    this.#api = api;
    this.#before = before;
  }

  async read(id: string): Promise<void> {
    const known = this.#before?.reports.get(id);
    try {
      const report = known?.run.finishedAt === undefined ? await readReport(this.#api, id) : known;
      if (report !== undefined) this.reports.set(id, report);
    } catch (error) {
      if (error instanceof WrongKey) throw error;
      this.problem = error;
      if (known !== undefined) this.reports.set(id, known);
    }
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
