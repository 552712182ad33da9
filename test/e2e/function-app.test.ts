/** The published function app, with everything that it speaks to on this machine. */
import { QueueServiceClient } from '@azure/storage-queue';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Digest } from '../../lib/oci/descriptor.ts';
import type { Report } from '../../lib/sync/runs/report.ts';
import { reportSchema, statusSchema } from '../../lib/sync/runs/status.ts';
import { hasBrowser, launchBrowser } from '../local/browser.ts';
import { buildApp, type Cloud, startCloud } from '../local/cloud.ts';
import { attestationOf, buildIndex, buildManifest, buildMultiPlatform } from '../local/content.ts';
import { webhookBody } from '../local/dockerhub.ts';

const rules = `rules:
  - name: app
    source: docker.io/acme/app
    target: $ACR/mirror/app
`;
const platforms = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
];

let cloud: Cloud;
let app: Awaited<ReturnType<typeof buildApp>>;

beforeAll(async () => {
  app = await buildApp();
  cloud = await startCloud({ appRoot: app.appRoot, rules });
});
afterAll(async () => {
  await cloud?.close();
  app?.remove();
});

const key = () => ({ 'x-functions-key': cloud.host.key() });

async function call(method: string, path: string, body?: unknown) {
  const answer = await fetch(`${cloud.host.url}/api/${path}`, {
    method,
    headers: key(),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return {
    status: answer.status,
    location: answer.headers.get('location'),
    json: (await answer.json()) as never,
  };
}

async function lastReport(trigger: string): Promise<Report> {
  const { json } = await call('GET', 'status');
  const status: { runs: { run: { id: string; trigger: string } }[] } = json;
  const last = status.runs.find(({ run }) => run.trigger === trigger);
  return (await call('GET', `status/${last?.run.id}`)).json;
}

const digestAt = (tag: string) => cloud.acr.repository('mirror/app').tags.get(tag)?.digest;
const bytesAt = (digest: Digest) => {
  const bytes = cloud.acr.repository('mirror/app').manifests.get(digest)?.bytes;
  return bytes && Buffer.from(bytes);
};

describe('the function app', () => {
  it('mirrors every tag of a rule when the timer fires, into ACR with the identity', async () => {
    const single = buildManifest({ layers: [20_000_000, 1000] });
    const multi = buildMultiPlatform('multi', platforms);
    const docker = platforms.map((platform) => ({
      manifest: buildManifest({ docker: true, pretty: true, seed: platform.architecture, platform }),
      platform,
    }));
    const contents = {
      '1.0': single,
      docker: buildIndex(docker, { docker: true, pretty: true }),
      attested: buildIndex([{ manifest: single }, attestationOf(single)]),
      latest: multi,
    };
    for (const [tag, content] of Object.entries(contents)) await cloud.hub.push('acme/app', tag, content);
    await cloud.host.invokeTimer('schedule');
    await cloud.host.idle();
    for (const [tag, content] of Object.entries(contents)) {
      expect(digestAt(tag)).toBe(content.descriptor.digest);
      for (const { descriptor, bytes } of [content, ...content.children])
        expect(bytesAt(descriptor.digest), tag).toEqual(Buffer.from(bytes));
    }
    const report = await lastReport('schedule');
    expect(report.totals).toMatchObject({ tags: 4, copied: 4, failed: 0 });
  });

  it('moves nothing and pulls nothing when nothing has changed', async () => {
    const pulls = cloud.hub.pulls;
    await cloud.host.invokeTimer('schedule');
    await cloud.host.idle();
    const report = await lastReport('schedule');
    expect(report.totals).toMatchObject({ tags: 4, unchanged: 4, bytesCopied: 0, pulls: 0 });
    expect(cloud.hub.pulls).toBe(pulls);
  });

  it('mirrors a push that a webhook tells of', async () => {
    const next = buildManifest({ layers: [1000, 2000] });
    await cloud.hub.push('acme/app', 'latest', next);
    const { status, json } = await call('POST', 'webhook', webhookBody('acme/app', 'latest'));
    expect(status).toBe(202);
    expect(json).toMatchObject({ requests: 1 });
    await cloud.host.idle();
    expect(digestAt('latest')).toBe(next.descriptor.digest);
  });

  it('accepts a webhook for what no rule wants, and refuses what is no push event', async () => {
    expect(await call('POST', 'webhook', webhookBody('acme/other', 'x'))).toMatchObject({
      status: 202,
      json: { requests: 0 },
    });
    expect((await call('POST', 'webhook', { nonsense: true })).status).toBe(400);
  });

  it('runs by hand and tells where the report will be', async () => {
    await cloud.hub.push('acme/app', '2.0', buildManifest({ layers: [3000] }));
    const { status, location } = await call('POST', 'sync', { rules: ['app'] });
    expect(status).toBe(202);
    await cloud.host.idle();
    const report: Report = (await call('GET', `${location}`.replace('/api/', ''))).json;
    expect(report.totals).toMatchObject({ tags: 5, copied: 1, unchanged: 4 });
  });

  it('refuses unknown rules and strangers', async () => {
    expect((await call('POST', 'sync', { rules: ['nobody'] })).status).toBe(400);
    expect((await fetch(`${cloud.host.url}/api/status`)).status).toBe(401);
    expect((await call('GET', 'status/none')).status).toBe(404);
  });

  it('copies nothing while it is paused, and goes on afterwards', async () => {
    await call('POST', 'control', { action: 'pause' });
    const next = buildManifest({ layers: [6000] });
    await cloud.hub.push('acme/app', 'paused', next);
    await cloud.host.invokeTimer('schedule');
    await cloud.host.idle();
    expect(digestAt('paused')).toBeUndefined();
    expect((await call('GET', 'status')).json).toMatchObject({ paused: true });
    await call('POST', 'control', { action: 'resume' });
    const asked = cloud.host.logs.flatMap(
      ({ message }) => /"message":"control".*"action":"(\w+)"/.exec(message)?.[1] ?? [],
    );
    expect(asked).toEqual(['pause', 'resume']);
    await cloud.host.invokeTimer('release');
    await call('POST', 'webhook', webhookBody('acme/app', 'paused'));
    await cloud.host.idle();
    expect(digestAt('paused')).toBe(next.descriptor.digest);
  });

  it('does not carry out a message for a target that no rule names', async () => {
    const forged = {
      kind: 'copy',
      id: 'forged',
      run: 'forged',
      rule: 'app',
      source: 'docker.io/acme/app',
      target: `${cloud.acr.host}/elsewhere`,
      tags: [{ source: '1.0', target: '1.0' }],
      reason: 'forged',
    };
    const queue = QueueServiceClient.fromConnectionString(cloud.azurite.connectionString).getQueueClient(
      'copy-requests',
    );
    await queue.sendMessage(Buffer.from(JSON.stringify(forged)).toString('base64'));
    await cloud.host.idle();
    expect(cloud.acr.repository('elsewhere').tags.size).toBe(0);
  });

  it('drops a poison message that is no request, and its log quotes no secret and obeys no control of it', async () => {
    const queue = QueueServiceClient.fromConnectionString(cloud.azurite.connectionString).getQueueClient(
      'copy-requests-poison',
    );
    const message = { kind: 'copy', 'AccountKey=canary-secret': 1, '\u202edetrevni': 1 };
    await queue.sendMessage(Buffer.from(JSON.stringify(message)).toString('base64'));
    await cloud.host.idle();
    const [line, ...others] = cloud.host.logs.filter((log) => log.message.includes('is no request'));
    expect(others).toEqual([]);
    expect(JSON.parse(line?.message ?? '')).toMatchObject({ level: 'error', code: 'ERR_REQUEST_INVALID' });
    expect(line?.message).toContain('AccountKey=***');
    expect(line?.message).not.toMatch(/canary-secret|\u202e/);
  });

  it('reports a tag that the source cannot serve, and copies the others', async () => {
    const broken = buildManifest({ layers: [4000] });
    await cloud.hub.push('acme/app', 'broken', broken);
    await cloud.hub.push('acme/app', '3.0', buildManifest({ layers: [5000] }));
    cloud.hub.repository('acme/app').blobs.delete(broken.blobs[1]?.descriptor.digest ?? 'sha256:0');
    await cloud.host.invokeTimer('schedule');
    await cloud.host.idle();
    const report = await lastReport('schedule');
    expect(report.totals).toMatchObject({ copied: 1, failed: 1 });
    expect(report.tags.find((line) => line.outcome === 'failed')?.error?.code).toBe('ERR_BLOB_MISSING');
    expect(digestAt('broken')).toBeUndefined();
  });

  it('answers what its schema says, and tells of its health', async () => {
    statusSchema.parse((await call('GET', 'status')).json);
    reportSchema.parse(await lastReport('schedule'));
    const { status, json } = await call('GET', 'health');
    const { findings }: { findings: { check: string; status: string }[] } = json;
    expect(findings.filter((finding) => finding.status !== 'ok')).toEqual([]);
    expect(status).toBe(200);
    const checks = ['rules', 'secrets', 'queue push-requests', 'state runs', 'source docker.io/acme/app'];
    const { host } = cloud.acr;
    expect(findings.map(({ check }) => check)).toEqual(
      expect.arrayContaining([...checks, 'allowance docker.io', `target ${host}/mirror/app`]),
    );
  });

  it.skipIf(!hasBrowser)('shows all that to whoever has the key, in the dashboard', async () => {
    const browser = await launchBrowser();
    try {
      const page = await browser.newPage();
      await page.goto(`${cloud.host.url}/api/dashboard`);
      await page.getByLabel('Function key').fill(cloud.host.key());
      await page.keyboard.press('Enter');
      await page.getByRole('heading', { name: '1 tag not in step' }).waitFor();
      await page.getByRole('article').getByText('ERR_BLOB_MISSING').waitFor();
      await page.getByRole('button', { name: 'Pause copying' }).click();
      await page.getByRole('button', { name: 'Resume copying' }).click();
      await page.getByRole('button', { name: 'Pause copying' }).waitFor();
    } finally {
      await browser.close();
    }
  });

  it('keeps to the last good rules while new ones are wrong, also in a process that never saw them, and says so', async () => {
    await cloud.writeRules('rules: [{ source: docker.io/acme/app, target: $ACR/mirror/app, prunes: true }]');
    await cloud.host.restart();
    const next = buildManifest({ layers: [7000] });
    await cloud.hub.push('acme/app', '4.0', next);
    await call('POST', 'webhook', webhookBody('acme/app', '4.0'));
    await cloud.host.idle();
    expect(digestAt('4.0')).toBe(next.descriptor.digest);
    expect((await call('GET', 'status')).json).toMatchObject({
      rulesError: { code: 'ERR_CONFIG', message: expect.stringMatching(/^sync.yaml:5: rules\[0\].prunes: /) },
    });
    const { status, json } = await call('GET', 'health');
    expect(status).toBe(503);
    expect(json).toMatchObject({ findings: expect.arrayContaining([wrongRules]) });
    await cloud.host.logged(({ message }) => message.includes('rules refused'));
  });
});

it('tells of a setting that is wrong, with its remedy', async () => {
  const host = await cloud.addInstance({ COPY_DEADLINE: '99h' });
  const answer = await fetch(`${host.url}/api/health`, { headers: { 'x-functions-key': host.key() } });
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({
    healthy: false,
    findings: [
      {
        check: 'settings',
        status: 'failed',
        code: 'ERR_SETTING',
        message: expect.stringContaining('COPY_DEADLINE'),
        remedy: 'Correct the named setting.',
      },
    ],
  });
});

const wrongRules = expect.objectContaining({
  check: 'rules',
  status: 'failed',
  code: 'ERR_CONFIG',
  message: expect.stringContaining('1 rules are in force'),
  remedy: 'Correct the named line.',
});
