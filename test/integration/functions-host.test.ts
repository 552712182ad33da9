import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { type QueueClient, QueueServiceClient } from '@azure/storage-queue';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type Azurite, startAzurite } from '../local/azurite.ts';
import {
  type FunctionsHost,
  type FunctionsHostOptions,
  type LogLine,
  startFunctionsHost,
} from '../local/functions-host.ts';
import { startIdentity } from '../local/identity.ts';
import { makeCertificate } from '../local/tls.ts';

const appRoot = fileURLToPath(new URL('../local/fixtures/app', import.meta.url));

let azurite: Azurite;
let service: QueueServiceClient;
let queue: QueueClient;
const open: FunctionsHost[] = [];

beforeAll(async () => {
  azurite = await startAzurite();
  service = QueueServiceClient.fromConnectionString(azurite.connectionString);
  queue = service.getQueueClient('unused');
});
beforeEach(async () => {
  queue = service.getQueueClient(`work-${randomUUID()}`);
  await queue.create();
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((host) => host.close()));
});
afterAll(() => azurite.close());

interface StartOptions extends Omit<FunctionsHostOptions, 'appRoot' | 'settings'> {
  readonly settings?: Record<string, string>;
}

function withDefaults({ settings, ...options }: StartOptions): FunctionsHostOptions {
  return {
    appRoot,
    timers: false,
    ...options,
    settings: {
      FixtureStorage: azurite.connectionString,
      WORK_QUEUE: queue.name,
      TICK_SCHEDULE: '0 0 0 * * *',
      ...settings,
    },
  };
}

/** A host that is closed after the test. */
async function start(options: StartOptions = {}): Promise<FunctionsHost> {
  const host = await startFunctionsHost(withDefaults(options));
  open.push(host);
  return host;
}

async function send(errand: { do: string; name: string }, delaySeconds = 0): Promise<void> {
  const text = Buffer.from(JSON.stringify(errand)).toString('base64');
  await queue.sendMessage(text, { visibilityTimeout: delaySeconds });
}

const says = (text: string) => (line: LogLine) => line.category === 'user' && line.message.includes(text);

/** What the app's functions logged, in order. */
const said = (host: FunctionsHost, text: string) =>
  host.logs.filter(says(text)).map(({ message }) => message.replace(/ \{.*/s, ''));

describe('an app', () => {
  it('is loaded in a process of its own, and shows what it registered', async () => {
    const host = await start();
    expect(await host.workerPid()).not.toBe(process.pid);
    expect(host.functions.map(({ name }) => name)).toContain('tick');
    const work = host.functions.find(({ name }) => name === 'work');
    expect(Object.values(work?.bindings ?? {})).toMatchObject([
      { type: 'queueTrigger', direction: 'in', queueName: '%WORK_QUEUE%', connection: 'FixtureStorage' },
    ]);
  });

  it('sees its settings, what the platform sets, and nothing of the environment around it', async () => {
    process.env.HUBFERRY_TEST_OUTSIDE = 'seen';
    const host = await start({ settings: { OWN_SETTING: 'own' } });
    const setting = async (name: string) => (await fetch(`${host.url}/api/setting/${name}`)).json();
    expect(await setting('OWN_SETTING')).toEqual({ value: 'own' });
    expect(await setting('FUNCTIONS_WORKER_RUNTIME')).toEqual({ value: 'node' });
    expect(await setting('HUBFERRY_TEST_OUTSIDE')).toEqual({ value: null });
  });

  it('that names a setting which is not there does not start', async () => {
    await expect(start({ settings: { TICK_SCHEDULE: '' } })).rejects.toThrow('TICK_SCHEDULE');
  });

  it('whose functions are disabled in its settings is triggered by nothing of theirs', async () => {
    const host = await start({
      settings: { 'AzureWebJobs.work.Disabled': 'true', 'AzureWebJobs.open.Disabled': '1' },
    });
    await send({ do: 'finish', name: 'off' });
    expect((await fetch(`${host.url}/api/open`)).status).toBe(404);
    await host.idle();
    const { approximateMessagesCount } = await queue.getProperties();
    expect(approximateMessagesCount).toBe(1);
    expect(said(host, 'finish off')).toEqual([]);
  });

  it('whose entry point fails does not start, and says why', async () => {
    const broken = fileURLToPath(new URL('../local/fixtures/broken-app', import.meta.url));
    await expect(startFunctionsHost({ appRoot: broken, settings: {} })).rejects.toThrow('no-such-package');
  });
});

describe('a timer trigger', () => {
  it('runs by hand, with the status of its schedule', async () => {
    const host = await start();
    await host.invokeTimer('tick');
    const { message } = await host.logged(says('schedule'));
    expect(JSON.parse(message)).toMatchObject({
      schedule: { adjustForDST: true },
      scheduleStatus: { next: expect.stringMatching(/T00:00:00/) },
      isPastDue: false,
    });
  });

  it('runs by the clock', async () => {
    const host = await start({ timers: true, settings: { TICK_SCHEDULE: '* * * * * *' } });
    const { message } = await host.logged(says('schedule'));
    expect(JSON.parse(message)).toMatchObject({ scheduleStatus: null });
  });

  it('is started by the admin route with the master key only', async () => {
    const host = await start();
    const post = (key: string, name: string) =>
      fetch(`${host.url}/admin/functions/${name}`, { method: 'POST', headers: { 'x-functions-key': key } });
    expect((await post(host.key('tick'), 'tick')).status).toBe(401);
    expect((await post(host.masterKey, 'tock')).status).toBe(404);
    expect((await post(host.masterKey, 'tick')).status).toBe(202);
    await host.logged(says('schedule'));
  });
});

describe('an HTTP trigger', () => {
  let host: FunctionsHost;
  beforeAll(async () => {
    host = await startFunctionsHost(withDefaults({}));
  });
  afterAll(() => host.close());

  it('receives parameters, query, headers and the bytes of the body, and answers with status and headers', async () => {
    const response = await fetch(`${host.url}/api/echo/x%20y?a=1`, {
      method: 'POST',
      headers: { 'x-sent': 'value', 'x-functions-key': host.key('echo') },
      body: new Uint8Array([0, 1, 254, 255]),
    });
    expect(response.status).toBe(201);
    expect(response.headers.get('x-method')).toBe('POST');
    expect(await response.json()).toEqual({
      name: 'x y',
      query: { a: '1' },
      header: 'value',
      body: '0001feff',
    });
  });

  it.each([
    ['open', 'no', 200],
    ['guarded', 'no', 401],
    ['guarded', 'its own', 401],
    ['guarded', 'the host', 401],
    ['guarded', 'the master', 200],
    ['echo', 'no', 401],
    ['echo', "another function's", 401],
    ['echo', 'its own', 201],
    ['echo', 'the host', 201],
    ['echo', 'the master', 201],
  ])('%s with %s key answers %i', async (name, whose, status) => {
    const keys: Record<string, string> = {
      no: '',
      'its own': host.key(name),
      "another function's": host.key('release'),
      'the host': host.key(),
      'the master': host.masterKey,
    };
    const method = name === 'echo' ? 'POST' : 'GET';
    const response = await fetch(`${host.url}/api/${name}?code=${keys[whose]}`, { method });
    expect(response.status).toBe(status);
  });

  it('with a key in the header ignores the one in the query', async () => {
    const headers = { 'x-functions-key': 'wrong' };
    const response = await fetch(`${host.url}/api/echo?code=${host.key('echo')}`, {
      method: 'POST',
      headers,
    });
    expect(response.status).toBe(401);
  });

  it('is not found under another route or method', async () => {
    expect((await fetch(`${host.url}/api/nothing`)).status).toBe(404);
    expect((await fetch(`${host.url}/open`)).status).toBe(404);
    expect((await fetch(`${host.url}/api/open`, { method: 'POST' })).status).toBe(404);
  });

  it('that throws answers 500 without the cause, which is in the log', async () => {
    const response = await fetch(`${host.url}/api/fails`);
    expect(response.status).toBe(500);
    expect(await response.text()).toBe('');
    await host.logged(({ level, message }) => level === 'error' && message.includes('secret cause'));
  });

  it('passes through the hooks of the app', async () => {
    expect(await (await fetch(`${host.url}/api/hooked`)).text()).toBe('changed by a hook');
    await host.logged((line) => line.functionName === 'hooked' && says('before')(line));
  });
});

describe('a queue trigger', () => {
  it('receives a message as it was sent, and takes it out of the queue', async () => {
    const host = await start();
    await send({ do: 'finish', name: 'a' });
    await host.idle();
    expect(said(host, 'finish a')).toEqual(['finish a delivery 1']);
  });

  it('is tried maxDequeueCount times; then the body alone goes to the poison queue', async () => {
    const host = await start();
    await send({ do: 'throw', name: 'b' });
    await host.logged(says('poison'));
    await host.idle();
    expect(said(host, 'throw b')).toEqual(['throw b delivery 1', 'throw b delivery 2', 'throw b delivery 3']);
    expect(host.logs.find(says('poison'))?.message).toBe('poison {"do":"throw","name":"b"}');
  });

  it('waits for visibilityTimeout before it tries again', async () => {
    const host = await start({
      settings: { AzureFunctionsJobHost__extensions__queues__visibilityTimeout: '00:01:00' },
    });
    await send({ do: 'throw', name: 'later' });
    await host.logged(({ level }) => level === 'error');
    await expect(host.idle(1000)).rejects.toThrow(`1 messages in ${queue.name}`);
    expect(said(host, 'throw later')).toHaveLength(1);
  });

  it('never sees a message that is not base64: it is poison at once', async () => {
    const host = await start();
    await queue.sendMessage('{"do":"finish"}');
    await host.logged(({ message }) => message.includes('Moving message to queue'));
    expect(said(host, 'finish')).toEqual([]);
    const poison = service.getQueueClient(`${queue.name}-poison`);
    expect(await poison.exists()).toBe(true);
  });

  it('runs at most batchSize + newBatchThreshold messages at a time', async () => {
    const host = await start();
    await send({ do: 'finish', name: 'first' });
    for (const name of ['1', '2', '3', '4', '5']) await send({ do: 'wait', name });
    const third = () => said(host, 'wait').length === 3;
    await host.logged(third);
    expect((await queue.peekMessages({ numberOfMessages: 10 })).peekedMessageItems).toHaveLength(2);
    await fetch(`${host.url}/api/release`, { method: 'POST' });
    await host.idle();
    expect(said(host, 'wait')).toHaveLength(5);
  });

  it('keeps a message invisible for as long as its function runs', async () => {
    const host = await start({
      leaseSeconds: 1,
      settings: { AzureFunctionsJobHost__functionTimeout: '00:01:00' },
    });
    await send({ do: 'wait', name: 'long' });
    await send({ do: 'finish', name: 'three seconds later' }, 3);
    await host.logged(says('three seconds later'));
    await fetch(`${host.url}/api/release`, { method: 'POST' });
    await host.idle();
    expect(said(host, 'wait long')).toEqual(['wait long delivery 1']);
  });

  it('takes up a queue that is made after the start', async () => {
    await queue.delete();
    const host = await start();
    await queue.create();
    await send({ do: 'finish', name: 'new' });
    await host.logged(says('finish new'));
  });

  it('shares its messages with another instance on the same storage', async () => {
    const hosts = [await start(), await start()];
    const names = Array.from({ length: 20 }, (_, index) => `n${index}.`);
    await Promise.all(names.map((name) => send({ do: 'finish', name })));
    await Promise.all(hosts.map((host) => host.idle()));
    const finished = hosts.flatMap((host) => said(host, 'finish'));
    expect(finished.sort()).toEqual(names.map((name) => `finish ${name} delivery 1`).sort());
  });

  it('reaches its storage with an identity', async () => {
    const certificate = makeCertificate();
    await using secure = await startAzurite({ tls: certificate });
    const identity = await startIdentity({ clientIds: ['client'] });
    onTestFinished(async () => {
      await identity.close();
      certificate.remove();
    });
    const connectionSettings = {
      FixtureStorage: '',
      FixtureStorage__queueServiceUri: secure.queueEndpoint,
      FixtureStorage__clientId: 'client',
      NODE_EXTRA_CA_CERTS: certificate.caFile,
    };
    const host = await start({ settings: { ...connectionSettings, ...identity.env } });
    queue = QueueServiceClient.fromConnectionString(secure.connectionString).getQueueClient(queue.name);
    await queue.create();
    await send({ do: 'finish', name: 'by identity' });
    await host.logged(says('by identity'));
    await host.idle();
  });
});

describe('an instance', () => {
  it('that is lost gives its message back when the lease ends, and answers 503 until another runs', async () => {
    const host = await start({ leaseSeconds: 1 });
    await send({ do: 'wait', name: 'lost' });
    await host.logged(says('wait lost delivery 1'));
    await host.kill();
    expect((await fetch(`${host.url}/api/open`)).status).toBe(503);
    await host.restart();
    await host.logged(says('wait lost delivery 2'));
    await fetch(`${host.url}/api/release`, { method: 'POST' });
    await host.idle();
  });

  it('that is lost too often with a message does not run it again: it is poison', async () => {
    const host = await start({
      leaseSeconds: 1,
      settings: { AzureFunctionsJobHost__extensions__queues__maxDequeueCount: '1' },
    });
    await send({ do: 'wait', name: 'deadly' });
    await host.logged(says('wait deadly'));
    await host.restart();
    await host.logged(says('poison'));
    expect(said(host, 'wait deadly')).toEqual(['wait deadly delivery 1']);
  });

  it.each([
    ['ends itself', 'exit', 'code 7'],
    ['leaves a rejection unhandled', 'rejectUnhandled', 'code 1'],
    ['runs longer than functionTimeout', 'hang', 'SIGKILL'],
  ])(
    'whose function %s loses its worker with all that runs there, and gets a new one',
    async (_, how, cause) => {
      const host = await start({ settings: { AzureFunctionsJobHost__functionTimeout: '00:00:01' } });
      const before = await host.workerPid();
      await send({ do: 'wait', name: 'neighbour' });
      await send({ do: how, name: 'culprit' });
      await host.logged(says('poison {"do":"wait"'));
      await host.logged(says(`poison {"do":"${how}"`));
      expect(host.logs.some(({ message }) => message.includes(cause))).toBe(true);
      expect(await host.workerPid()).not.toBe(before);
      expect((await fetch(`${host.url}/api/open`)).status).toBe(200);
    },
  );

  it('keeps its address and keys when it is started again', async () => {
    const host = await start();
    const url = `${host.url}/api/echo?code=${host.key('echo')}`;
    await host.restart();
    expect((await fetch(url, { method: 'POST' })).status).toBe(201);
  });
});
