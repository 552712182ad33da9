import type { Rule } from '../config/model.ts';

/** A namespace rule for one of its repositories; any other rule is itself. */
export function forRepository(rule: Rule, path: string): Rule {
  if (!rule.source.path.endsWith('/*')) return rule;
  const name = path.slice(path.lastIndexOf('/') + 1);
  const fill = (pattern: string) => pattern.replace(/\*$/, name);
  const targets = rule.targets.map((target) => ({ ...target, path: fill(target.path) }));
  return { ...rule, source: { ...rule.source, path: fill(rule.source.path) }, targets };
}
