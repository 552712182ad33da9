/** What is wrong, by cause and with its remedy, and what waits until when. */
import { type Child, h } from './dom.ts';
import { count, moment, several } from './format.ts';
import { button, name, when } from './parts.ts';
import { type Cause, canRetry, isTag, type Parked } from './standing.ts';

const targetsShown = 100;

export function causes(all: readonly Cause[]): Child[] {
  const failed = all.some(({ lines }) => lines.some(canRetry));
  return [
    h(
      'div',
      { class: 'heading' },
      h('h2', { id: 'causes-title' }, 'What is wrong'),
      failed ? button('retry-all', 'Try failed tags again') : undefined,
    ),
    ...all.map(cause),
  ];
}

function cause({ key, code, meaning, remedy, message, lines }: Cause): HTMLElement {
  return h(
    'article',
    { class: 'cause', 'data-key': key },
    h('h3', {}, meaning || message, ' ', h('code', {}, code)),
    message === '' || message === meaning ? undefined : h('p', { class: 'said' }, h('bdi', {}, message)),
    remedy === '' ? undefined : h('p', { class: 'remedy' }, h('strong', {}, 'Remedy: '), ...withCode(remedy)),
    targets(
      lines.map((line) => (isTag(line) ? line.target : line.rule)),
      lines.length,
      lines.some(isTag) ? 'tag' : 'rule',
    ),
  );
}

/** The remedies mark names with backticks. */
function withCode(text: string): Child[] {
  return text.split('`').map((piece, index) => (index % 2 === 1 ? h('code', {}, piece) : piece));
}

function targets(all: readonly string[], total: number, noun: string): HTMLElement {
  const items = all.slice(0, targetsShown).map((target) => h('li', {}, name(target)));
  const rest = total - items.length;
  return h(
    'details',
    { open: total <= 3 },
    h('summary', {}, several(total, noun)),
    h(
      'ul',
      // It may have to be scrolled, by keyboard too.
      { class: 'names', tabindex: 0 },
      ...items,
      rest > 0 ? h('li', {}, `and ${count(rest)} more: search for them below`) : undefined,
    ),
  );
}

export function parked(all: readonly Parked[], now: number): Child[] {
  const rows = all.map(({ until, reason, count, targets: some }) =>
    h(
      'li',
      { 'data-key': `${until} ${reason}` },
      h(
        'p',
        { class: 'until' },
        until === 0 ? 'When its turn comes' : `${moment(until)}, `,
        until === 0 ? undefined : when(until, now),
      ),
      h('p', {}, h('bdi', {}, reason)),
      targets(some, count, 'request'),
    ),
  );
  return [h('h2', { id: 'parked-title' }, 'Parked'), h('ul', { class: 'parked' }, ...rows)];
}
