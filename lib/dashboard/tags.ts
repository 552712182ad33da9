/** The lines of tags: searched, filtered, and shown a page at a time, so that ten thousand are as quick as ten. */
import type { Line } from '../sync/runs/report.ts';
import { type Child, h } from './dom.ts';
import { bytes, count, duration, several } from './format.ts';
import { button, name, outcomePill, shortDigest, when } from './parts.ts';
import { kindOf } from './standing.ts';

export interface Filter {
  readonly text: string;
  /** Empty: every rule. */
  readonly rule: string;
  /** An outcome, `trouble` for all that are not as they should be, or empty. */
  readonly outcome: string;
}

export const trouble = 'trouble';
const linesAPage = 25;

/** Every word must be somewhere in the line. */
export function select<T extends Line>(lines: readonly T[], { text, rule, outcome }: Filter): T[] {
  const words = text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  return lines.filter((line) => {
    if (rule !== '' && line.rule !== rule) return false;
    if (outcome === trouble && !['bad', 'waiting'].includes(kindOf(line))) return false;
    if (outcome !== '' && outcome !== trouble && line.outcome !== outcome) return false;
    const all = words.length === 0 ? '' : textOf(line);
    return words.every((word) => all.includes(word));
  });
}

function textOf({ rule, source, target, digest = '', outcome, reason = '', error }: Line): string {
  const said = error === undefined ? '' : `${error.code} ${error.message}`;
  return [rule, source, target, digest, outcome, reason, said].join('\n').toLowerCase();
}

export function linesOf(found: readonly Line[], page: number, now: number): Child[] {
  const pages = Math.max(1, Math.ceil(found.length / linesAPage));
  const at = Math.min(page, pages - 1);
  const first = at * linesAPage;
  const shown = found.slice(first, first + linesAPage);
  if (shown.length === 0) return [h('p', { class: 'none' }, 'No tag fits.')];
  const heads = ['Target', 'Outcome', 'Why', 'Digest', 'When'];
  return [
    h(
      'table',
      { class: 'lines', 'aria-labelledby': 'tags-title' },
      h(
        'thead',
        {},
        h('tr', {}, ...heads.map((text) => h('th', { scope: 'col', class: text.toLowerCase() }, text))),
      ),
      h('tbody', {}, ...shown.map((line) => row(line, now))),
    ),
    h(
      'nav',
      { class: 'pager', 'aria-label': 'Pages of tags' },
      button('page', 'Previous', { 'data-page': String(at - 1), ...disabledIf(at === 0) }),
      h(
        'p',
        { role: 'status' },
        `${count(first + 1)}–${count(first + shown.length)} of ${several(found.length, 'tag')}`,
      ),
      button('page', 'Next', { 'data-page': String(at + 1), ...disabledIf(at === pages - 1) }),
    ),
  ];
}

/** Not `disabled`: that would take the focus away from who pages by keyboard. */
function disabledIf(condition: boolean): Record<string, string> {
  return condition ? { 'aria-disabled': 'true' } : {};
}

function row(line: Line, now: number): HTMLElement {
  const { source, target, digest, reason, error, until, bytes: size, startedAt, durationMs } = line;
  const why = error === undefined ? reason : `${error.code}: ${error.message}`;
  const work = [size ? bytes(size) : '', durationMs === undefined ? '' : `in ${duration(durationMs)}`];
  return h(
    'tr',
    {},
    h('th', { scope: 'row', class: 'target', title: target }, ...way(source, target)),
    h('td', { class: 'outcome' }, outcomePill(line)),
    h(
      'td',
      { class: 'why', title: why },
      h('bdi', {}, why ?? ''),
      until === undefined ? undefined : h('span', { class: 'note' }, 'until ', when(until, now)),
    ),
    h('td', { class: 'digest' }, shortDigest(digest)),
    h(
      'td',
      { class: 'when' },
      startedAt === undefined ? undefined : when(startedAt, now),
      h('span', { class: 'note' }, ` ${work.join(' ')}`),
    ),
  );
}

/** What a reader looks for stands first: the repository and tag at the target, then where it is and comes from. */
function way(source: string, target: string): Child[] {
  const slash = target.indexOf('/');
  const note = h('span', { class: 'note' }, name(target.slice(0, slash)), ' ← ', name(source));
  return [name(target.slice(slash + 1)), note];
}

/** The choices of a `select`, the chosen one kept even where it has no lines any more. */
export function options(all: string, values: Iterable<string>, chosen: string): HTMLElement[] {
  const sorted = [...new Set([...values, chosen])].filter((value) => value !== '').sort();
  return [
    h('option', { value: '', 'data-key': '' }, all),
    ...sorted.map((value) => h('option', { value, 'data-key': value }, value)),
  ];
}
