/** Rules and names for all the repositories of a namespace. */
import type { RepositoryName, Rule } from '../../config/model.ts';

/** Whether the name stands for every repository below it. */
export function isNamespace({ path }: RepositoryName): boolean {
  return path === '*' || path.endsWith('/*');
}

/** A namespace rule for one of its repositories; any other rule is itself. */
export function forRepository(rule: Rule, path: string): Rule {
  if (!isNamespace(rule.source)) return rule;
  const name = path.slice(path.lastIndexOf('/') + 1);
  const fill = (pattern: string) => pattern.replace(/\*$/, name);
  const targets = rule.targets.map((target) => ({ ...target, path: fill(target.path) }));
  return { ...rule, source: { ...rule.source, path: fill(rule.source.path) }, targets };
}
