/** The section of tags: those of the mirror or of one run, as far as the filters let them through, page by page. */
import { byId, h, show } from './dom.ts';
import type { Mirror } from './mirror.ts';
import { button } from './parts.ts';
import { worstFirst } from './standing.ts';
import { about } from './tables.ts';
import { linesOf, options, select, trouble } from './tags.ts';

const searchField = byId('search') as HTMLInputElement;
const ruleField = byId('rule') as HTMLSelectElement;
const outcomeField = byId('outcome') as HTMLSelectElement;

let page = 0;

export function turnTo(wanted: number): void {
  page = wanted;
}

export function chooseRule(rule: string): void {
  ruleField.value = rule;
}

/** @param run the opened one, if any */
export function showTags(mirror: Mirror, run: string | undefined): void {
  const report = run === undefined ? undefined : mirror.reports.get(run);
  const lines = run === undefined ? mirror.lines : (report?.tags.toSorted(worstFirst) ?? []);
  const filter = { text: searchField.value, rule: ruleField.value, outcome: outcomeField.value };
  const rules = lines.map(({ rule }) => rule);
  const outcomes = lines.map(({ outcome }) => outcome);
  show(ruleField, options('All rules', rules, filter.rule));
  show(outcomeField, [
    ...options('All outcomes', outcomes, filter.outcome === trouble ? '' : filter.outcome),
    h('option', { value: trouble, 'data-key': trouble }, 'All that is not in step'),
  ]);
  show(byId('tags-title'), [run === undefined ? 'Tags' : `Tags of run ${run}`]);
  show(byId('scope'), run === undefined ? [] : [button('current', 'Show the mirror as it stands')]);
  show(byId('about'), report === undefined ? [] : about(report));
  show(byId('lines'), linesOf(select(lines, filter), page, Date.now()));
}
