import type { Rule, Rules, TagPattern } from '../../../lib/config/model.ts';
import { readRules } from '../../../lib/config/rules.ts';
import type { Environment } from '../../../lib/config/variables.ts';
import { ConfigError } from '../../../lib/errors.ts';
import { formatRepository } from '../../../lib/oci/reference.ts';
import { formatPattern } from '../../../lib/sync/select/pattern.ts';

export function read(text: string, env: Environment = {}): Rules {
  return readRules(text, { file: 'sync.yaml', env, variables: 'all' });
}

/** What a reader throws, as far as people see it. */
export function errorOf(reader: () => unknown): ConfigError {
  try {
    reader();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('Nothing was thrown.');
}

/** The one rule of a file. */
export function oneRule(text: string): Rule {
  const { rules } = read(text);
  const [rule] = rules;
  if (rule === undefined || rules.length > 1) throw new Error(`The file has ${rules.length} rules.`);
  return rule;
}

/** A rule as people would note it down. */
export function note(rule: Rule) {
  const { selector } = rule.source;
  return {
    source: formatRepository(rule.source),
    ...(selector.kind === 'tags' && { tags: selector.tags }),
    ...(selector.kind === 'digest' && { digest: selector.digest }),
    ...(selector.kind === 'pattern' && { pattern: notePattern(selector.pattern) }),
    targets: rule.targets.map(
      (target) => `${formatRepository(target)}${target.tags ? `:${target.tags}` : ''}`,
    ),
  };
}

function notePattern(pattern: TagPattern): string {
  return formatPattern(pattern) + (pattern.anchored ? '' : ' anywhere');
}

/** A rules file with one rule of these keys. */
export function fileWith(keys: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ version: 1, rules: [keys] });
}
