/** The message as receivers want it. Names and messages of others are put in as plain text, never as markup. */
import type { Line } from '../sync/runs/report.ts';
import type { Message } from './message.ts';

const linesShown = 10;

/** For Slack and Teams by the host of their addresses, for all others the message itself. */
export function bodyFor(hostname: string, message: Message): unknown {
  if (hostname === 'hooks.slack.com') return slackBody(message);
  if (/\.(logic\.azure\.com|powerplatform\.com)$/.test(hostname)) return teamsBody(message);
  return message;
}

/** A heading, and below it what failed and what to do, what else is not as it is to be, and what changed. */
function paragraphsOf({ causes, failures, rules, about, recovered }: Message): string[] {
  const told = causes.map(({ code, message, remedy, tags, examples }) => {
    const more = tags > examples.length ? ` and ${tags - examples.length} more` : '';
    return `${code}: ${message}\n${remedy}\n${examples.join(', ')}${more}`;
  });
  const well = recovered.length === 0 ? [] : [`Well again: ${recovered.slice(0, linesShown).join(', ')}`];
  const others = failures.filter(({ outcome }) => outcome !== 'failed').map(describe);
  const rest = others.length > linesShown ? [`and ${others.length - linesShown} more`] : [];
  const listed = others.length === 0 ? [] : [[...others.slice(0, linesShown), ...rest].join('\n')];
  const changed = about.includes('changed') ? rules.slice(0, linesShown).map(changesOf) : [];
  return [...told.slice(0, linesShown), ...listed, ...changed, ...well];
}

/** What a check found, with what puts it right; or until when a tag waits. */
function describe({ outcome, target, until, reason }: Line): string {
  const remedy = outcome in remedies ? `: ${remedies[outcome]}` : '';
  const wait = until === undefined ? '' : ` until ${until}`;
  const why = reason === undefined || remedy !== '' ? '' : ` (${reason})`;
  return `${outcome}${wait} ${target}${why}${remedy}`;
}

const remedies: Readonly<Record<string, string>> = {
  missing: 'the next run copies it',
  moved: 'the next run moves it back',
  incomplete: 'run with force, or retry the check',
};

function changesOf({ rule, outcomes }: Message['rules'][number]): string {
  const counts = ['copied', 'deleted'].flatMap((outcome) => {
    const count = outcomes[outcome] ?? 0;
    return count > 0 ? [`${count} ${outcome}`] : [];
  });
  return `${rule}: ${counts.join(', ') || 'no change'}`;
}

/** At most so many characters, and no half of one. */
function cut(text: string, most: number): string {
  return text.slice(0, most).replace(/[\ud800-\udbff]$/, '');
}

function footerOf({ run, idempotencyKey }: Message): string {
  return `run ${run.id} · ${idempotencyKey}`;
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };

/** Slack's incoming webhooks; a block takes 3000 characters, and a plain text is shown as it is. */
function slackBody(message: Message): unknown {
  const plain = (text: string) => ({ type: 'plain_text', text: cut(text, 2900), emoji: false });
  return {
    text: message.title.replace(/[&<>]/g, (sign) => entities[sign] ?? ''),
    blocks: [
      { type: 'section', text: plain(message.title) },
      ...paragraphsOf(message).map((text) => ({ type: 'section', text: plain(text) })),
      { type: 'context', elements: [plain(footerOf(message))] },
    ],
  };
}

/** Workflows of Teams ("When a Teams webhook request is received"): an adaptive card, where a run of text is no Markdown. */
function teamsBody(message: Message): unknown {
  const text = (text: string, style: object = {}) => ({
    type: 'RichTextBlock',
    inlines: [{ type: 'TextRun', text: cut(text, 1500), ...style }],
  });
  const content = {
    $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
    type: 'AdaptiveCard',
    version: '1.4',
    body: [
      text(message.title, { weight: 'Bolder', size: 'Medium' }),
      ...paragraphsOf(message).map((paragraph) => text(paragraph)),
      text(footerOf(message), { isSubtle: true, size: 'Small' }),
    ],
    msteams: { width: 'Full' },
  };
  const contentType = 'application/vnd.microsoft.card.adaptive';
  return { type: 'message', attachments: [{ contentType, contentUrl: null, content }] };
}
