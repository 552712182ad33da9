/** What stops a rule as a whole is one line without a tag. */
import type { Rule, RuleTarget } from '../../config/model.ts';
import { HubferryError, summarize } from '../../errors.ts';
import type { Line } from './report.ts';

/** What a registry that names no time is left, in milliseconds. */
const unnamedMs = 60_000;

type RuleLine = Pick<Line, 'rule' | 'source' | 'target'>;

export function failedRule(rule: Rule, targets: readonly RuleTarget[], error: unknown): Line<'failed'> {
  const told = error instanceof HubferryError ? error : new HubferryError('ERR_INTERNAL', String(error));
  return { ...namesOfRule(rule, targets), outcome: 'failed', error: summarize(told) };
}

/** The rule goes on by itself from then on (milliseconds since the epoch). */
export function deferredRule(
  rule: Rule,
  targets: readonly RuleTarget[],
  until: number,
  error: unknown,
): Line<'deferred'> {
  const time = new Date(until).toISOString();
  return {
    ...namesOfRule(rule, targets),
    outcome: 'deferred',
    reason: 'rate limit',
    until: time,
    error: summarize(error),
  };
}

/** When to come back to a registry with a limit, in milliseconds since the epoch; `undefined` for any other failure. */
export function limitedUntil(error: unknown): number | undefined {
  if (!(error instanceof HubferryError) || error.code !== 'ERR_RATE_LIMITED') return undefined;
  return error.retryAt ?? Date.now() + unnamedMs;
}

/** Adds the line; what stops several targets of a rule in the same way is one line that names them. */
export function addRuleLine<Outcome extends string>(lines: Line<Outcome>[], line: Line<Outcome>): void {
  const at = lines.findIndex((other) => isAlike(other, line));
  const other = lines[at];
  if (other === undefined) lines.push(line);
  else lines[at] = joined(other, line);
}

function isAlike(one: Line, other: Line): boolean {
  return (
    one.rule === other.rule &&
    one.source === other.source &&
    one.outcome === other.outcome &&
    one.error?.code === other.error?.code
  );
}

function joined<Outcome extends string>(one: Line<Outcome>, other: Line<Outcome>): Line<Outcome> {
  const target = [...new Set([...one.target.split(', '), ...other.target.split(', ')])].sort().join(', ');
  const [first, second] = [one.error?.message ?? '', other.error?.message ?? ''];
  const message = first.includes(second) ? first : `${first}; ${second}`;
  const error = one.error && { ...one.error, message };
  // The later of two times: ISO times sort as text.
  const until = [one.until, other.until].sort()[1];
  return { ...one, target, ...(error && { error }), ...(until !== undefined && { until }) };
}

/** What a rule is about, as a whole or for some of its targets. */
export function namesOfRule(rule: Rule, targets: readonly RuleTarget[] = rule.targets): RuleLine {
  const { name, source } = rule;
  const target = targets.map(({ host, path }) => `${host}/${path}`).join(', ');
  return { rule: name, source: `${source.host}/${source.path}`, target };
}
