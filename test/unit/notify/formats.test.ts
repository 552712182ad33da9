import { describe, expect, it } from 'vitest';
import { bodyFor } from '../../../lib/notify/formats.ts';
import { messageOf } from '../../../lib/notify/message.ts';
import {
  type AnyReport,
  buildReport,
  type Line,
  syncOutcomes,
  verifyFindings,
} from '../../../lib/sync/runs/report.ts';
import { noTransfer } from '../../../lib/sync/runs/tally.ts';

const hostile = 'down <!channel> [see](https://evil.example) *now* & "then"';

function messageFor(lines: readonly Line[], outcomes: readonly string[] = syncOutcomes) {
  const run = { id: 'r1', trigger: 'schedule' as const, startedAt: '2026-01-01T00:00:00.000Z' };
  const report = buildReport(run, outcomes, lines, noTransfer()) as AnyReport;
  const about = new Set(['failed', 'parked', 'changed'] as const);
  const message = messageOf(report, [], about, () => false);
  if (message === undefined) throw new Error('There is nothing to tell');
  return message;
}

const failed = (tag: string, message: string): Line => ({
  rule: 'app',
  source: `docker.io/a/b:${tag}`,
  target: `x.azurecr.io/b:${tag}`,
  outcome: 'failed',
  error: { code: 'ERR_SERVER', message },
});

const message = messageFor([failed('1', hostile)]);

describe('a message', () => {
  it('to any address is the summary itself', () => {
    expect(bodyFor('hooks.example', message)).toBe(message);
    expect(bodyFor('hooks.slack.com.evil.example', message)).toBe(message);
    expect(bodyFor('logic.azure.com', message)).toBe(message);
  });

  it('to Slack is blocks of plain text, with the key', () => {
    const body = bodyFor('hooks.slack.com', message);
    expect(body).toMatchObject({
      text: 'hubferry, schedule: 1 failed',
      blocks: [
        { type: 'section', text: { type: 'plain_text', text: 'hubferry, schedule: 1 failed' } },
        { type: 'section', text: { type: 'plain_text', text: expect.stringContaining(hostile) } },
        { type: 'context', elements: [{ type: 'plain_text', text: `run r1 · ${message.idempotencyKey}` }] },
      ],
    });
    expect(JSON.stringify(body)).not.toContain('mrkdwn');
  });

  it.each(['prod-12.westeurope.logic.azure.com', 'a.environment.api.powerplatform.com'])(
    'to Teams (%s) is a card without Markdown, with the key',
    (hostname) => {
      const body = bodyFor(hostname, message);
      expect(body).toMatchObject({
        type: 'message',
        attachments: [
          {
            contentType: 'application/vnd.microsoft.card.adaptive',
            content: { type: 'AdaptiveCard', version: '1.4' },
          },
        ],
      });
      const text = JSON.stringify(body);
      expect(text).toContain(message.idempotencyKey);
      expect(text).not.toContain('"TextBlock"');
    },
  );

  it('says what a check found, what waits until when, and what changed', () => {
    const line = (outcome: string, facts: Partial<Line> = {}): Line => ({
      rule: 'app',
      source: 'docker.io/a/b:1',
      target: 'x.azurecr.io/b:1',
      outcome,
      ...facts,
    });
    const text = (message: ReturnType<typeof messageFor>) =>
      JSON.stringify(bodyFor('hooks.slack.com', message));
    expect(text(messageFor([line('missing')], verifyFindings))).toContain(
      'missing x.azurecr.io/b:1: the next run copies it',
    );
    const until = '2026-01-03T00:00:00.000Z';
    expect(text(messageFor([line('deferred', { until, reason: 'rate limit' })]))).toContain(
      `deferred until ${until} x.azurecr.io/b:1 (rate limit)`,
    );
    expect(text(messageFor([line('copied')]))).toContain('app: 1 copied');
  });

  it('is never cut in the middle of a character', () => {
    for (const hostname of ['hooks.slack.com', 'x.logic.azure.com']) {
      for (const begin of ['', 'x']) {
        const body = bodyFor(hostname, messageFor([failed('1', begin + '😀'.repeat(2000))]));
        expect(JSON.stringify(body)).not.toMatch(/\\ud8/);
      }
    }
  });

  it('stays within what Slack and Teams take, however much failed and however long it is', () => {
    const lines = Array.from({ length: 5000 }, (_, index) =>
      failed(`${index}`.padStart(128, 'x'), 'm'.repeat(1000)),
    );
    const large = messageFor(lines);
    const slack = bodyFor('hooks.slack.com', large) as { blocks: { text?: { text: string } }[] };
    expect(slack.blocks.length).toBeLessThanOrEqual(50);
    for (const { text } of slack.blocks) expect(text?.text.length ?? 0).toBeLessThanOrEqual(3000);
    const teams = JSON.stringify(bodyFor('x.logic.azure.com', large));
    expect(Buffer.byteLength(teams)).toBeLessThan(28 * 1024);
  });
});
