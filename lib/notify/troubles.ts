/** Which targets failed the last time that something was said of them, so that recovery can be told, once. */
import type { DocumentStore } from '../storage/ports.ts';
import type { AnyReport, Line } from '../sync/report.ts';

const key = 'notify/troubles.json';
const mostRemembered = 5000;
const bad: ReadonlySet<string> = new Set(['failed', 'missing', 'moved', 'incomplete']);
const good: ReadonlySet<string> = new Set(['copied', 'unchanged', 'deleted', 'same']);

export class Troubles {
  readonly #state: DocumentStore;

  constructor(state: DocumentStore) {
    this.#state = state;
  }

  /** Targets that had failed and are well in this report. */
  async recoveredIn(report: AnyReport): Promise<string[]> {
    const { targets } = await this.#read();
    const { well } = newsOf(report);
    return targets.filter((target) => well(target));
  }

  async note(report: AnyReport): Promise<void> {
    const { well, gone, failed } = newsOf(report);
    for (;;) {
      const { targets, etag } = await this.#read();
      const left = targets.filter((target) => !well(target) && !gone.has(target));
      const now = [...new Set([...left, ...failed])].slice(-mostRemembered);
      if (now.join() === targets.join()) return;
      const condition = etag === undefined ? { ifAbsent: true } : { ifMatch: etag };
      if ((await this.#state.put(key, Buffer.from(JSON.stringify(now)), condition)) !== undefined) return;
    }
  }

  async #read(): Promise<{ targets: readonly string[]; etag: string | undefined }> {
    const document = await this.#state.get(key);
    if (document === undefined) return { targets: [], etag: undefined };
    const targets = JSON.parse(Buffer.from(document.bytes).toString()) as string[];
    return { targets, etag: document.etag };
  }
}

interface News {
  readonly failed: ReadonlySet<string>;
  readonly well: (target: string) => boolean;
  /** Nobody wants it any more. */
  readonly gone: ReadonlySet<string>;
}

/** A rule that had failed as a whole has its repositories for a target: each is well when a tag of it is. */
function newsOf(report: AnyReport): News {
  const lines: readonly Line[] = report.tags;
  const withOutcome = (fits: (outcome: string) => boolean) =>
    lines.filter(({ outcome }) => fits(outcome)).flatMap(({ target }) => target.split(', '));
  const failed = new Set(withOutcome((outcome) => bad.has(outcome)));
  const tags = withOutcome((outcome) => good.has(outcome));
  const repositories = tags.map((target) => target.replace(/[:@][^/]*$/, ''));
  const namespaces = repositories.map((repository) => repository.replace(/[^/]*$/, '*'));
  const well = new Set([...tags, ...repositories, ...namespaces]);
  // What was cancelled is as it was.
  const skipped = lines.filter(({ outcome, reason }) => outcome === 'skipped' && reason !== 'cancelled');
  return {
    failed,
    well: (target) => well.has(target) && !failed.has(target),
    gone: new Set(skipped.map(({ target }) => target)),
  };
}
