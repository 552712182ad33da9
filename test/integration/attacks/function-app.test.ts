/**
 * The published function app against those who may send it something: whoever has the webhook's key or a function key,
 * whoever may write messages or rules, and registries that repeat what they were told.
 */
import { BlobServiceClient } from '@azure/storage-blob';
import { QueueServiceClient } from '@azure/storage-queue';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Queue, queues } from '../../../lib/storage/ports.ts';
import { buildApp, type Cloud, startCloud } from '../../local/cloud.ts';
import { buildManifest } from '../../local/content.ts';
import { webhookBody } from '../../local/dockerhub.ts';
import { reply } from '../../local/server.ts';
import { serve } from './support.ts';

const password = 'canary-password-9f2c';
const otherSetting = 'canary-of-another-setting';

const rules = `rules:
  - name: app
    source: docker.io/acme/app
    target: $ACR/mirror/app
  - name: <img src=x onerror=alert(1)>
    source: docker.io/acme/html
    target: $ACR/mirror/html
`;

let cloud: Cloud;
let app: Awaited<ReturnType<typeof buildApp>>;

beforeAll(async () => {
  app = await buildApp();
  cloud = await startCloud({
    appRoot: app.appRoot,
    rules,
    hub: { accounts: { robot: { secret: password } } },
    settings: {
      DOCKERHUB_USERNAME: 'robot',
      DOCKERHUB_TOKEN: password,
      OTHER_SETTING: otherSetting,
      // What cannot be read is poison after two deliveries, not after ten minutes.
      AzureFunctionsJobHost__extensions__queues__maxDequeueCount: '2',
      AzureFunctionsJobHost__extensions__queues__visibilityTimeout: '00:00:00',
      AzureFunctionsJobHost__extensions__queues__maxPollingInterval: '00:00:00.100',
    },
  });
  await cloud.hub.push('acme/app', '1.0', first);
  await cloud.hub.push('acme/app', 'latest', first);
  await cloud.host.invokeTimer('schedule');
  await cloud.host.idle();
});
afterAll(async () => {
  await cloud?.close();
  app?.remove();
});
beforeEach(() => {
  cloud.hub.registry.intercept = undefined;
  cloud.acr.intercept = undefined;
});

const first = buildManifest({ seed: 'first', layers: [1000] });
const second = buildManifest({ seed: 'second', layers: [2000] });

interface Answered {
  readonly status: number;
  readonly text: string;
}

async function call(
  method: string,
  path: string,
  body?: string | Uint8Array<ArrayBuffer>,
): Promise<Answered> {
  const answer = await fetch(`${cloud.host.url}/api/${path}`, {
    method,
    headers: { 'x-functions-key': cloud.host.key() },
    ...(body === undefined ? {} : { body }),
  });
  return { status: answer.status, text: await answer.text() };
}

const digestAt = (tag: string) => cloud.acr.repository('mirror/app').tags.get(tag)?.digest;
const requestsToHub = () => cloud.hub.registry.requests.length + cloud.hub.api.requests.length;

const queueService = () => QueueServiceClient.fromConnectionString(cloud.azurite.connectionString);

async function sendByHand(queue: Queue, body: string): Promise<void> {
  await queueService().getQueueClient(queue).sendMessage(Buffer.from(body).toString('base64'));
}

describe('a webhook', () => {
  const event = (tag: unknown, name: unknown = 'acme/app', pushedAt: unknown = 1) =>
    JSON.stringify({ push_data: { tag, pushed_at: pushedAt }, repository: { repo_name: name } });

  it.each([
    ['nothing', ''],
    ['no JSON', '{'],
    ['null', 'null'],
    ['a list', '[]'],
    ['a text', '"push"'],
    ['half an event', '{"push_data":{"tag":"1.0"}}'],
    ['a tag that is a list', event(['1.0'])],
    ['a tag that is an object', event({ toString: '1.0' })],
    ['a tag that is a path', event('../../x')],
    ['a tag with a line break', event('1.0\r\nx: y')],
    ['a tag that is HTML', event('<script>alert(1)</script>')],
    ['a tag too long', event('t'.repeat(129))],
    ['a repository that is a path', event('1.0', '../../x')],
    ['a repository that is a URL', event('1.0', 'http://127.0.0.1/x')],
    ['a repository that is a number', event('1.0', 7)],
    ['a repository too long', event('1.0', `a/${'b'.repeat(400)}`)],
    ['a time before all time', event('1.0', 'acme/app', -1)],
    ['a time after all time', event('1.0', 'acme/app', 1e300)],
    ['a body of 65 KiB', `${event('1.0').slice(0, -1)},"x":"${'x'.repeat(65 * 1024)}"}`],
    ['a body of 8 MiB', 'x'.repeat(8 << 20)],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00, 0x7b])],
    ['a hundred thousand brackets', '['.repeat(60_000)],
  ])('of %s is refused with 400 and asks nobody', async (_, body) => {
    const before = requestsToHub();
    const { status, text } = await call('POST', 'webhook', body);
    expect(status).toBe(400);
    expect(JSON.parse(text).error.code).toBe('ERR_REQUEST_INVALID');
    expect(text).not.toContain('<script>');
    await cloud.host.idle();
    expect(requestsToHub()).toBe(before);
  });

  it('without a key, or with the wrong one, is nobody', async () => {
    const body = JSON.stringify(webhookBody('acme/app', '1.0'));
    for (const query of ['', '?code=wrong', `?code=${cloud.host.key('status')}`]) {
      const answer = await fetch(`${cloud.host.url}/api/webhook${query}`, { method: 'POST', body });
      expect(answer.status).toBe(401);
    }
  });

  it('cannot send anybody to a host of its choice', async () => {
    const stranger = await serve(() => undefined);
    const forged = {
      ...webhookBody('acme/app', '1.0'),
      callback_url: `${stranger.url}/callback`,
      __proto__: { polluted: true },
      source: `${new URL(stranger.url).host}/x`,
      target: `${new URL(stranger.url).host}/x`,
    };
    forged.repository.repo_url = `${stranger.url}/repository`;
    expect((await call('POST', 'webhook', JSON.stringify(forged))).status).toBe(202);
    await cloud.host.idle();
    expect(stranger.requests).toEqual([]);
    expect(digestAt('1.0')).toBe(first.descriptor.digest);
  });

  it('that comes thirty times moves the tag, and pulls once', async () => {
    await cloud.hub.push('acme/app', 'latest', second);
    const pulls = cloud.hub.pulls;
    const body = JSON.stringify(webhookBody('acme/app', 'latest', 1_700_000_000_000));
    const answers = await Promise.all(Array.from({ length: 30 }, () => call('POST', 'webhook', body)));
    for (const { status } of answers) expect([202, 503]).toContain(status);
    expect(answers.some(({ status }) => status === 202)).toBe(true);
    await cloud.host.idle();
    expect(digestAt('latest')).toBe(second.descriptor.digest);
    expect(cloud.hub.pulls - pulls).toBe(1);
  });
});

describe('a message sent by hand', () => {
  const copy = (changes: object) => JSON.stringify({ ...request(), ...changes });
  const request = () => ({
    kind: 'copy',
    id: 'by-hand',
    run: 'by-hand',
    rule: 'app',
    source: 'docker.io/acme/app',
    target: `${cloud.acr.host}/mirror/app`,
    tags: [{ source: '1.0', target: '1.0' }],
    reason: 'by hand',
  });
  const plan = (changes: object) =>
    JSON.stringify({ kind: 'plan', id: 'by-hand', run: 'by-hand', rule: 'app', ...changes });

  it.each<[string, Queue, () => string]>([
    ['nothing', 'copy-requests', () => ''],
    ['no JSON', 'push-requests', () => '{'],
    ['another kind', 'copy-requests', () => copy({ kind: 'run', command: 'id' })],
    ['an unknown key', 'copy-requests', () => copy({ constructor: { prototype: { polluted: true } } })],
    ['a run that is a path', 'plan-requests', () => plan({ run: '../../config/sync' })],
    ['a rule that nobody wrote', 'plan-requests', () => plan({ rule: 'nobody' })],
    ['a target that no rule names', 'copy-requests', () => copy({ target: `${cloud.acr.host}/elsewhere` })],
    [
      'a source that the rule does not name',
      'push-requests',
      () => copy({ source: 'docker.io/evil/app', tags: [{ source: 'x', target: 'x' }] }),
    ],
    ['a tag that is a path', 'copy-requests', () => copy({ tags: [{ source: '../x', target: '../x' }] })],
    ['a tag that is HTML', 'copy-requests', () => copy({ tags: [{ source: '<b>', target: '<b>' }] })],
    [
      'a tag under another name',
      'copy-requests',
      () => copy({ tags: [{ source: '1.0', target: 'stolen' }] }),
    ],
    ['a delete where the rule prunes nothing', 'copy-requests', () => copy({ kind: 'delete' })],
    [
      'a delete of what is there',
      'push-requests',
      () => copy({ kind: 'delete', tags: [{ source: 'latest', target: 'latest' }] }),
    ],
    ['an attempt beyond counting', 'copy-requests', () => copy({ attempt: 9_007_199_254_740_991 })],
    ['a cursor of its own', 'plan-requests', () => plan({ cursor: '../../config/sync.yaml', target: 99 })],
    [
      'an older digest',
      'copy-requests',
      () => copy({ digest: first.descriptor.digest, tags: [{ source: 'latest', target: 'latest' }] }),
    ],
    ['a digest that is none', 'copy-requests', () => copy({ digest: `sha256:${'0'.repeat(64)}` })],
  ])('with %s ends, writes nothing and moves nothing', async (_, queue, body) => {
    const tags = () =>
      [...cloud.acr.store.repositories.values()].flatMap(({ name, tags }) =>
        [...tags].map(([tag, { digest }]) => `${name}:${tag} ${digest}`),
      );
    const before = tags();
    await sendByHand(queue, body());
    await cloud.host.idle();
    expect(tags()).toEqual(before);
    expect((await call('GET', 'status')).status).toBe(200);
  });
});

describe('whoever has a function key', () => {
  it.each([
    '..%2F..%2Fconfig%2Fsync.yaml',
    '%2e%2e%2f%2e%2e%2fopen',
    '..%5C..%5Cconfig',
    '%00',
    'a%0Ab',
    '<script>alert(1)</script>',
    `${'x'.repeat(129)}`,
    '__proto__',
  ])('finds no run named %s, and nothing else by that name', async (name) => {
    const { status, text } = await call('GET', `status/${name}`);
    expect(status).toBe(404);
    expect(text).not.toContain('registries');
    expect(text).not.toContain('<script>');
  });

  it.each([
    ['sync', '{"rules":"app"}'],
    ['sync', '{"rules":["nobody"]}'],
    ['sync', '{"source":"docker.io/evil/app"}'],
    ['sync', '{"tags":["../x"]}'],
    ['sync', '{"__proto__":{"force":true},"x":1}'],
    ['sync', '[]'],
    ['control', '{"action":"delete"}'],
    ['control', '{}'],
    ['control', '{"action":["pause"]}'],
  ])('gets 400 from %s for %s', refusesBody);

  it.each(['../recent/schedule', 'a/b', '\0', '\ud800'])(
    'gets 404 for what no run can be called: %j',
    async (run) => {
      for (const action of ['cancel', 'retry'])
        expect((await call('POST', 'control', JSON.stringify({ action, run }))).status).toBe(404);
    },
  );

  it('gets 400 for a body of more than 64 KiB, or more than a thousand tags', async () => {
    await refusesBody('sync', JSON.stringify({ tags: Array(1001).fill('a') }));
    await refusesBody('control', ' '.repeat(70_000));
  });

  async function refusesBody(name: string, body: string): Promise<void> {
    const before = requestsToHub();
    expect((await call('POST', name, body)).status).toBe(400);
    await cloud.host.idle();
    expect(requestsToHub()).toBe(before);
  }
});

describe('whoever may write the rules', () => {
  it.each([
    ['another setting of the app', '$OTHER_SETTING'],
    ["the app's own storage", '$HubferryStorage'],
    ['a variable of the platform', '$IDENTITY_HEADER'],
  ])('does not get %s sent anywhere', async (_, password) => {
    const stranger = await serve(() => undefined);
    const host = new URL(stranger.url).host;
    const text = `rules:\n  - { source: ${host}/x, target: $ACR/mirror/x }\n`;
    const registries = `  ${host}: { username: x, password: ${JSON.stringify(password)} }\n`;
    await refusesRules(`${registries}${text}`, 'ERR_VARIABLE_UNSET');
    expect(stranger.requests).toEqual([]);
  });

  it.each([
    ['at a host of theirs', '{ kind: acr, endpoint: "https://evil.example" }'],
    ['at a host of theirs, by its name', '{ kind: acr, identity: true }'],
    ['without TLS', '{ kind: acr, endpoint: "http://evil.azurecr.io" }'],
    ['for another service', '{ kind: acr, audience: "https://vault.azure.net" }'],
  ])("does not get the app's identity logged in %s", async (_, entry) => {
    const asked = cloud.identity.requests.length;
    const text = 'rules:\n  - { source: docker.io/acme/app, target: evil.example/x }\n';
    await refusesRules(`  evil.example: ${entry}\n${text}`, 'ERR_CONFIG');
    expect(cloud.identity.requests.slice(asked).filter(({ url }) => url.includes('vault'))).toEqual([]);
  });

  it.each(['/dev/zero', '/dev/stdin', '/proc/self/mem'])(
    'does not stop the app with certificates from %s',
    async (file) => {
      const text = 'rules:\n  - { source: docker.io/acme/app, target: evil.example/x }\n';
      await refusesRules(`  evil.example: { ca: ${file} }\n${text}`, 'ERR_CONFIG');
    },
  );

  it('gets a login that they name sent to the registry that they name, and nothing else', async () => {
    const stranger = await serve(() => reply(401, { 'www-authenticate': 'Basic realm="x"' }));
    const host = new URL(stranger.url).host;
    const registries = `  ${host}: { username: $DOCKERHUB_USERNAME, password: $DOCKERHUB_TOKEN }\n`;
    await cloud.writeRules(`${registries}rules:\n  - { source: ${host}/x, target: $ACR/mirror/x }\n`);
    await cloud.host.invokeTimer('schedule');
    await cloud.host.idle();
    await cloud.writeRules(rules);
    const logins = new Set(stranger.requests.map(({ headers }) => headers.authorization));
    const named = `Basic ${Buffer.from(`robot:${password}`).toString('base64')}`;
    expect(logins).toEqual(new Set([undefined, named]));
    const sent = JSON.stringify(stranger.requests);
    for (const secret of [otherSetting, cloud.azurite.accountKey, cloud.identity.env.IDENTITY_HEADER, 'eyJ'])
      expect(sent).not.toContain(secret);
  });

  /** The last good rules stay in force. */
  async function refusesRules(text: string, code: string): Promise<void> {
    await cloud.writeRules(text);
    await cloud.host.invokeTimer('schedule');
    await cloud.host.idle();
    const { text: status } = await call('GET', 'status');
    await cloud.writeRules(rules);
    expect(JSON.parse(status).rulesError.code).toBe(code);
    expect(digestAt('latest')).toBe(second.descriptor.digest);
  }

  it('gets no script into the page, which shows data as text alone', async () => {
    await cloud.hub.push('acme/html', '1', first);
    await cloud.host.invokeTimer('schedule');
    await cloud.host.idle();
    const answer = await fetch(`${cloud.host.url}/api/dashboard`);
    const page = await answer.text();
    expect(page).not.toContain('onerror');
    expect(page).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/);
    const policy = answer.headers.get('content-security-policy') ?? '';
    expect(policy).toMatch(/default-src 'none'/);
    expect(policy).not.toMatch(/unsafe-inline|unsafe-eval|\*/);
    const status = await fetch(`${cloud.host.url}/api/status`, {
      headers: { 'x-functions-key': cloud.host.key() },
    });
    expect(status.headers.get('content-type')).toMatch(/^application\/json/);
  });
});

describe('secrets', () => {
  /** All that a run leaves behind: logs, documents, messages, answers. */
  async function everything(): Promise<string> {
    const found = [JSON.stringify(cloud.host.logs)];
    const blobs = BlobServiceClient.fromConnectionString(cloud.azurite.connectionString);
    for await (const { name: container } of blobs.listContainers()) {
      const client = blobs.getContainerClient(container);
      for await (const { name } of client.listBlobsFlat({ includeMetadata: true })) {
        if (container === 'config') continue;
        found.push(
          `${container}/${name}`,
          (await client.getBlobClient(name).downloadToBuffer()).toString('latin1'),
        );
      }
    }
    for (const queue of queues.flatMap((name) => [name, `${name}-poison`])) {
      const { peekedMessageItems } = await queueService()
        .getQueueClient(queue)
        .peekMessages({ numberOfMessages: 32 });
      found.push(
        ...peekedMessageItems.map(({ messageText }) => Buffer.from(messageText, 'base64').toString()),
      );
    }
    for (const path of ['status', 'health', 'dashboard']) found.push((await call('GET', path)).text);
    return found.join('\n');
  }

  it('are in no log, document, message or answer, whatever fails and whoever repeats them', async () => {
    const registries = '  docker.io/acme: { username: $DOCKERHUB_USERNAME, password: $DOCKERHUB_TOKEN,';
    await cloud.writeRules(
      `${registries} endpoint: "${cloud.hub.url}", hubApi: "${cloud.hub.apiUrl}" }\n${rules}`,
    );
    const repeat = ({ headers }: { headers: { authorization?: string | undefined } }, status: number) => ({
      kind: 'answer' as const,
      status,
      body: JSON.stringify({
        errors: [{ code: 'UNKNOWN', message: `${password} ${headers.authorization}` }],
        details: `${password} ${headers.authorization}`,
      }),
    });
    const { hub, acr, host } = cloud;
    const peers = [hub.registry, hub.tokens, hub.cdn, hub.api, acr, acr.data, cloud.identity];
    for (const [index, peer] of peers.entries()) {
      for (const status of [401, 500]) {
        await hub.push(
          'acme/app',
          `canary-${index}-${status}`,
          buildManifest({ seed: `${index} ${status}`, layers: [500] }),
        );
        let left = 4;
        peer.intercept = (request) => {
          left -= 1;
          return left >= 0 ? repeat(request, status) : undefined;
        };
        await call('POST', 'webhook', JSON.stringify(webhookBody('acme/app', `canary-${index}-${status}`)));
        await host.idle();
        peer.intercept = undefined;
      }
    }
    await host.invokeTimer('verify');
    await host.idle();
    const all = await everything();
    expect(all).toContain('canary-0-401');
    const hidden = [
      password,
      cloud.azurite.accountKey,
      cloud.identity.env.IDENTITY_HEADER,
      otherSetting,
      host.key(),
      host.masterKey,
    ];
    for (const secret of hidden) expect(all).not.toContain(secret);
    // No token of anybody: all are JSON Web Tokens here.
    expect(all.match(/eyJ[\w-]{20}/g)).toBeNull();
    expect(all).not.toMatch(/signature=[0-9a-f]/);
  }, 120_000);
});
