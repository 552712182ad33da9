import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Schedule } from '../../local/host/ncrontab.ts';
import { Route } from '../../local/host/routes.ts';
import { queueServiceOf, readHostOptions, resolveBinding } from '../../local/host/settings.ts';
import { Timer } from '../../local/host/triggers.ts';

const next = (expression: string, after: string) =>
  new Schedule(expression).next(new Date(after))?.toISOString();

describe('a schedule', () => {
  it.each([
    ['0 0 0 * * *', '2026-11-24T10:00:00Z', '2026-11-25T00:00:00.000Z'],
    ['0 0 6 * * 0', '2026-11-24T10:00:00Z', '2026-11-29T06:00:00.000Z'],
    ['0 * * * * *', '2026-11-24T10:00:00Z', '2026-11-24T10:01:00.000Z'],
    ['*/20 * * * * *', '2026-11-24T10:00:05.5Z', '2026-11-24T10:00:20.000Z'],
    ['0 30 9-10 * JAN Mon-FRI', '2026-11-24T10:00:00Z', '2027-01-01T09:30:00.000Z'],
    ['0 5/25 * * * *', '2026-11-24T10:06:00Z', '2026-11-24T10:30:00.000Z'],
    ['0 0 29 2 *', '2026-11-24T10:00:00Z', '2028-02-29T00:00:00.000Z'],
    ['0 0 0 29 2 SUN', '2026-11-24T10:00:00Z', '2032-02-29T00:00:00.000Z'],
  ])('%s after %s occurs at %s', (expression, after, expected) => {
    expect(next(expression, after)).toBe(expected);
  });

  it('that no calendar has never occurs', () => {
    expect(next('0 0 0 30 2 *', '2026-11-24T10:00:00Z')).toBeUndefined();
  });

  it.each([
    '',
    '0 0 0 * *  * *',
    '60 * * * * *',
    '* * * 0 * *',
    '* * * * * 7',
    '5-1 * * * * *',
    '*/0 * * * * *',
    'x * * * * *',
  ])('written as "%s" is refused', (expression) => {
    expect(() => new Schedule(expression)).toThrow();
  });

  it('occurs at the first second that fits all its fields', () => {
    const values = fc.uniqueArray(fc.integer({ min: 0, max: 59 }), { minLength: 1, maxLength: 5 });
    const times = fc.date({ min: new Date('2024-01-01'), max: new Date('2030-01-01'), noInvalidDate: true });
    fc.assert(
      fc.property(values, values, times, (seconds, minutes, after) => {
        const candidate = new Date(after);
        candidate.setUTCMilliseconds(0);
        do candidate.setUTCSeconds(candidate.getUTCSeconds() + 1);
        while (!seconds.includes(candidate.getUTCSeconds()) || !minutes.includes(candidate.getUTCMinutes()));
        expect(new Schedule(`${seconds} ${minutes} * * * *`).next(after)).toEqual(candidate);
      }),
      { numRuns: 50 },
    );
  });
});

describe('a timer', () => {
  const timer = (schedule: string, options: object = {}) =>
    new Timer({ type: 'timerTrigger', direction: 'in', schedule, ...options });
  const status = (input: object) => JSON.parse((input as { json: string }).json).ScheduleStatus;

  it('tells its first run that there was none before, and the next one of the first', () => {
    const daily = timer('0 0 0 * * *');
    const [first, second] = [new Date('2026-11-24T00:00:00Z'), new Date('2026-11-25T00:00:00Z')];
    expect(status(daily.fire(first))).toMatchObject({
      Last: '0001-01-01T00:00:00+00:00',
      Next: '2026-11-25T00:00:00.000Z',
    });
    expect(status(daily.fire(second))).toMatchObject({ Last: first.toISOString() });
  });

  it('has no status when it runs more than once a minute, or is not monitored', () => {
    const now = new Date('2026-11-24T00:00:00Z');
    expect(status(timer('*/30 * * * * *').fire(now))).toBeNull();
    expect(status(timer('0 * * * * *', { useMonitor: false }).fire(now))).toBeNull();
    expect(status(timer('0 * * * * *').fire(now))).not.toBeNull();
  });
});

describe('a route', () => {
  it.each([
    ['api/status/{run?}', '/api/status', {}],
    ['api/status/{run?}', '/api/STATUS/a%20b', { run: 'a b' }],
    ['api/{*rest}', '/api/a/b', { rest: 'a/b' }],
    ['health', '/health/', {}],
  ])('%s takes %s', (template, path, params) => {
    expect(new Route(template).match(path)).toEqual(params);
  });

  it.each([
    ['api/status/{run?}', '/api/status/a/b'],
    ['api/item/{id}', '/api/item'],
    ['api/sync', '/api'],
    ['api/sync', '/api/plan'],
  ])('%s does not take %s', (template, path) => {
    expect(new Route(template).match(path)).toBeUndefined();
  });

  it('with a constraint is refused, not taken for a literal', () => {
    expect(() => new Route('api/{id:int}')).toThrow('{id:int}');
  });
});

describe('host.json', () => {
  const appRoot = (host: object) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'hubferry-host-'));
    writeFileSync(path.join(folder, 'host.json'), JSON.stringify({ version: '2.0', ...host }));
    return folder;
  };

  it('has the defaults of Azure', () => {
    const { functionTimeout, extensions } = readHostOptions(appRoot({}), {});
    expect(functionTimeout).toBe(30 * 60_000);
    expect(extensions.http.routePrefix).toBe('api');
    expect(extensions.queues).toMatchObject({
      batchSize: 16,
      maxDequeueCount: 5,
      visibilityTimeout: 0,
      maxPollingInterval: 60_000,
    });
  });

  it('is overridden by AzureFunctionsJobHost__ settings', () => {
    const folder = appRoot({ extensions: { queues: { batchSize: 4, maxDequeueCount: 10 } } });
    const settings = {
      AzureFunctionsJobHost__functionTimeout: '00:00:01.5',
      AzureFunctionsJobHost__extensions__queues__batchSize: '2',
    };
    const { functionTimeout, extensions } = readHostOptions(folder, settings);
    expect(functionTimeout).toBe(1500);
    expect(extensions.queues).toMatchObject({ batchSize: 2, maxDequeueCount: 10 });
  });

  it.each([
    { batchSize: 33 },
    { maxPollingInterval: '00:00:00' },
    { visibilityTimeout: '1 minute' },
    { batchsize: 4 },
  ])('with queues %j is refused', (queues) => {
    expect(() => readHostOptions(appRoot({ extensions: { queues } }), {})).toThrow(Object.keys(queues)[0]);
  });
});

describe('a binding', () => {
  it('takes the settings that it names', () => {
    const binding = { type: 'queueTrigger', direction: 'in', queueName: '%QUEUE%-poison' } as const;
    expect(resolveBinding(binding, { QUEUE: 'plans' })).toMatchObject({ queueName: 'plans-poison' });
  });

  it('that names a missing setting is refused by its name', () => {
    const binding = { type: 'timerTrigger', direction: 'in', schedule: '%SYNC_SCHEDULE%' } as const;
    expect(() => resolveBinding(binding, { SYNC_SCHEDULE: '' })).toThrow('SYNC_SCHEDULE');
  });
});

describe('a storage connection', () => {
  it('is found under its name and under AzureWebJobs', () => {
    const settings = { AzureWebJobsStorage: 'UseDevelopmentStorage=true' };
    expect(queueServiceOf('Storage', settings).url).toBe('http://127.0.0.1:10001/devstoreaccount1');
    expect(queueServiceOf('AzureWebJobsStorage', settings).accountName).toBe('devstoreaccount1');
  });

  it('may be an address with an identity', () => {
    const settings = { Product__queueServiceUri: 'https://account.queue.core.windows.net' };
    expect(queueServiceOf('Product', settings).accountName).toBe('account');
  });

  it('that no setting gives is refused by its name', () => {
    expect(() => queueServiceOf('Product', {})).toThrow('Product');
  });
});
