/** What to plan again for a run in which something failed, or a check that found something. */
import type { Rule } from '../../config/model.ts';
import type { AnyReport, Line } from '../runs/report.ts';
import { isNamespace } from '../select/namespace.ts';

export interface Repair {
  readonly rule: Rule;
  /** For a namespace rule: the repository that failed. */
  readonly repository: string | undefined;
  /** Absent where it failed as a whole. */
  readonly tags: readonly string[] | undefined;
  readonly dryRun: boolean;
  readonly force: boolean;
}

const troubles: ReadonlySet<string> = new Set(['failed', 'moved', 'missing', 'incomplete']);

/** One repair for each rule, and for each repository of a namespace rule; none for rules that are gone. */
export function repairsOf({ run, tags }: AnyReport, rules: readonly Rule[]): Repair[] {
  const troubled = (tags as readonly Line[]).filter(({ outcome }) => troubles.has(outcome));
  // What lies below an equal tag is looked at by force alone.
  const force = run.trigger === 'verify';
  const { dryRun = false } = run;
  return rules.flatMap((rule) => {
    const lines = troubled.filter((line) => line.rule === rule.name).map(partsOf);
    const groups = Map.groupBy(lines, ({ path }) =>
      isNamespace(rule.source) && !path.endsWith('*') ? path : undefined,
    );
    return [...groups].map(([repository, group]) => {
      const named = group.flatMap(({ tag }) => tag ?? []);
      const tags = named.length < group.length ? undefined : [...new Set(named)];
      return { rule, repository, tags, dryRun, force };
    });
  });
}

/** `docker.io/a/b:1` in parts; a rule-wide failure has no tag, and what is named by digest belongs to the whole rule. */
function partsOf({ source }: Line): { path: string; tag: string | undefined } {
  const [, path = '', tag] = /^[^/]*\/([^:@]*)(?::(.+))?/.exec(source) ?? [];
  return { path, tag };
}
