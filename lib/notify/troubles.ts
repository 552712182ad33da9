/** Which targets failed the last time that something was said of them, so that recovery can be told, once. */
import * as z from 'zod';
import type { DocumentStore } from '../storage/ports.ts';
import type { AnyReport, Line } from '../sync/runs/report.ts';
import { parseStored } from '../sync/stored.ts';

const key = 'notify/troubles.json';
const mostRemembered = 5000;
const bad: ReadonlySet<string> = new Set(['failed', 'missing', 'moved', 'incomplete']);
const good: ReadonlySet<string> = new Set(['copied', 'unchanged', 'deleted', 'same']);

/** `toldBy`: the run whose notification tells that it is well again; it is forgotten when that is written down. */
const troublesSchema = z.array(
  z.object({ rule: z.string(), target: z.string(), toldBy: z.string().optional() }),
);
type Trouble = z.infer<typeof troublesSchema>[number];

export class Troubles {
  readonly #state: DocumentStore;

  constructor(state: DocumentStore) {
    this.#state = state;
  }

  /** Targets that had failed and are well in this report, for its run alone to tell, also when it is asked again. */
  async takeRecovered(report: AnyReport): Promise<string[]> {
    const { well } = newsOf(report);
    const isOurs = (one: Trouble) => (one.toldBy ?? report.run.id) === report.run.id && well(one);
    const troubles = await this.#change((all) =>
      all.map((one) => (isOurs(one) ? { ...one, toldBy: report.run.id } : one)),
    );
    return [...new Set(troubles.filter(isOurs).map(({ target }) => target))];
  }

  /** Notes what failed, and forgets what was taken to be told. */
  async note(report: AnyReport): Promise<void> {
    const { gone, failed } = newsOf(report);
    const stays = (one: Trouble) =>
      one.toldBy !== report.run.id && !gone.has(nameOf(one)) && !failed.has(nameOf(one));
    await this.#change((all) => [...all.filter(stays), ...failed.values()].slice(-mostRemembered));
  }

  async #change(change: (troubles: readonly Trouble[]) => readonly Trouble[]): Promise<readonly Trouble[]> {
    for (;;) {
      const document = await this.#state.get(key);
      // What was damaged begins anew: it is made of reports.
      const before = (document && parseStored(document.bytes, troublesSchema)) ?? [];
      const after = change(before);
      const text = JSON.stringify(after);
      if (text === JSON.stringify(before)) return after;
      const condition = document === undefined ? { ifAbsent: true } : { ifMatch: document.etag };
      if ((await this.#state.put(key, Buffer.from(text), condition)) !== undefined) return after;
    }
  }
}

interface News {
  readonly failed: ReadonlyMap<string, Trouble>;
  readonly well: (trouble: Trouble) => boolean;
  /** Nobody wants it any more. */
  readonly gone: ReadonlySet<string>;
}

/**
 * A rule that had failed as a whole has its repositories for a target: each is well when a tag of it is, unless single tags
 * alone were looked at, which lists nothing.
 */
function newsOf(report: AnyReport): News {
  const lines: readonly Line[] = report.tags;
  const withOutcome = (fits: (outcome: string) => boolean): Trouble[] =>
    lines
      .filter(({ outcome }) => fits(outcome))
      .flatMap(({ rule, target }) => target.split(', ').map((one) => ({ rule, target: one })));
  const failed = new Map(withOutcome((outcome) => bad.has(outcome)).map((one) => [nameOf(one), one]));
  const tags = withOutcome((outcome) => good.has(outcome));
  const listed = report.run.trigger === 'webhook' || report.run.partial ? [] : tags;
  const repositories = listed.map((one) => ({ ...one, target: one.target.replace(/[:@][^/]*$/, '') }));
  const namespaces = repositories.map((one) => ({ ...one, target: one.target.replace(/[^/]*$/, '*') }));
  const well = new Set([...tags, ...repositories, ...namespaces].map(nameOf));
  // What was cancelled is as it was.
  const skipped = lines.filter(({ outcome, reason }) => outcome === 'skipped' && reason !== 'cancelled');
  return {
    failed,
    well: (trouble) => well.has(nameOf(trouble)) && !failed.has(nameOf(trouble)),
    gone: new Set(skipped.map(nameOf)),
  };
}

function nameOf({ rule, target }: Pick<Trouble, 'rule' | 'target'>): string {
  return `${rule}\n${target}`;
}
