import { describe, expect, it } from 'vitest';
import { createHostGate } from '../../../lib/registry/gate.ts';
import { type Answer, reply, replyJson } from '../../local/server.ts';
import { closedServer, countingObserver, fakeClock, serve, transportTo } from './support.ts';

/** Answers with each of these once, then with 200. */
function answering(...answers: (Answer | 'reset')[]) {
  const left = [...answers];
  return () => {
    const next = left.shift() ?? reply(200, {}, 'done');
    return next === 'reset' ? undefined : next;
  };
}

describe('retry', () => {
  it('sends a GET again after each failure that may pass', async () => {
    for (const status of [408, 429, 500, 502, 503, 504]) {
      const server = await serve(answering(reply(status), reply(status)));
      const response = await transportTo(server.url).send({ method: 'GET', url: '/v2/' });
      expect(response.status).toBe(200);
      expect(server.requests).toHaveLength(3);
    }
  });

  it('does not send again what will not pass', async () => {
    for (const status of [400, 401, 403, 404, 405, 413, 501]) {
      const server = await serve(answering(reply(status)));
      const response = await transportTo(server.url).send({ method: 'GET', url: '/v2/' });
      expect(response.status).toBe(status);
      expect(server.requests).toHaveLength(1);
    }
  });

  it('reads the body of a 500 before it decides', async () => {
    const fault = { errors: [{ code: 'MANIFEST_BLOB_UNKNOWN', message: 'blob unknown' }] };
    const server = await serve(answering(replyJson(500, fault)));
    const response = await transportTo(server.url).send({ method: 'GET', url: '/v2/' });
    expect(response.faults).toEqual([{ code: 'MANIFEST_BLOB_UNKNOWN', message: 'blob unknown' }]);
    expect(server.requests).toHaveLength(1);
  });

  it('gives up after the retries and hands the last answer on', async () => {
    const server = await serve(() => reply(503));
    const response = await transportTo(server.url, { retries: 2 }).send({ method: 'GET', url: '/v2/' });
    expect(response.status).toBe(503);
    expect(server.requests).toHaveLength(3);
  });

  it('backs off longer each time, with jitter, and never beyond its bound', async () => {
    const server = await serve(() => reply(500));
    const clock = fakeClock();
    await transportTo(server.url, { retries: 8, clock }).send({ method: 'GET', url: '/v2/' });
    expect(clock.slept).toHaveLength(8);
    clock.slept.forEach((ms, attempt) => {
      expect(ms).toBeGreaterThanOrEqual(0);
      expect(ms).toBeLessThanOrEqual(Math.min(15_000, 500 * 2 ** attempt));
    });
    expect(new Set(clock.slept).size).toBeGreaterThan(1);
  });

  it('sends a GET again when the connection breaks, also in the middle of a body asked for as a whole', async () => {
    const server = await serve(answering('reset', reply(200, { 'content-length': 100 }, 'short')));
    server.intercept = () => (server.requests.length === 2 ? { kind: 'cut', after: 3 } : undefined);
    const response = await transportTo(server.url).send({ method: 'GET', url: '/v2/', limit: 1000 });
    expect(Buffer.from(await response.body.bytes(1000)).toString()).toBe('done');
    expect(server.requests).toHaveLength(3);
  });

  it('never repeats a PATCH of unknown fate', async () => {
    const server = await serve(answering('reset'));
    const send = transportTo(server.url).send({ method: 'PATCH', url: '/u', body: Buffer.from('abc') });
    await expect(send).rejects.toMatchObject({ code: 'ERR_CONNECTION', retryable: true });
    expect(server.requests).toHaveLength(1);
    const failing = await serve(answering(reply(502)));
    const response = await transportTo(failing.url).send({
      method: 'PATCH',
      url: '/u',
      body: Buffer.from('abc'),
    });
    expect(response.status).toBe(502);
    expect(failing.requests).toHaveLength(1);
  });

  it('repeats a PATCH that was refused with 429, with its whole body', async () => {
    const received: string[] = [];
    const server = await serve(async (exchange) => {
      received.push((await exchange.bytes())?.toString() ?? '');
      return received.length === 1 ? reply(429, { 'retry-after': '7' }) : reply(202);
    });
    const clock = fakeClock();
    const body = [Buffer.from('ab'), Buffer.from('cd')];
    const response = await transportTo(server.url, { clock }).send({ method: 'PATCH', url: '/u', body });
    expect(response.status).toBe(202);
    expect(received).toEqual(['abcd', 'abcd']);
    expect(clock.slept).toEqual([7000]);
  });

  it('repeats any request that never went out', async () => {
    const clock = fakeClock();
    const { url: dead } = await closedServer();
    const send = transportTo(dead, { clock, retries: 2 }).send({
      method: 'POST',
      url: '/v2/a/blobs/uploads/',
    });
    await expect(send).rejects.toMatchObject({ code: 'ERR_CONNECTION', retryable: true });
    expect(clock.slept).toHaveLength(2);
  });

  it('leaves a host alone that answers 429 without a time, in all that goes there', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    const server = await serve(answering(reply(429)));
    const once = transportTo(server.url, { clock, gate, retries: 0 });
    expect((await once.send({ method: 'GET', url: '/v2/' })).status).toBe(429);
    await transportTo(server.url, { clock, gate }).send({ method: 'HEAD', url: '/v2/' });
    expect(clock.slept).toHaveLength(1);
    expect(clock.slept[0]).toBeGreaterThanOrEqual(1000);
  });

  it('leaves it alone for a pull that it refused, too', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    const server = await serve(answering(reply(429)));
    const once = transportTo(server.url, { clock, gate, retries: 0 });
    expect((await once.send({ method: 'GET', url: '/v2/a/manifests/1', pull: true })).status).toBe(429);
    await transportTo(server.url, { clock, gate }).send({ method: 'HEAD', url: '/v2/' });
    expect(clock.slept).toEqual([expect.any(Number)]);
    expect(clock.slept[0]).toBeGreaterThanOrEqual(1000);
  });

  it('ends at a host that refuses everything, and goes on at one that serves now and then', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock, patienceMs: 120_000 });
    const limits = { clock, gate, retries: 30 };
    const refusing = await serve(() => reply(429));
    await expect(
      transportTo(refusing.url, limits).send({ method: 'GET', url: '/v2/' }),
    ).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED', retryAt: expect.any(Number) });
    const slow = await serve(() => reply(slow.requests.length % 3 === 0 ? 404 : 429));
    const transport = transportTo(slow.url, limits);
    for (let nth = 0; nth < 20; nth += 1)
      expect((await transport.send({ method: 'HEAD', url: '/v2/' })).status).toBe(404);
  });

  it('stops with the reason of its signal, untouched', async () => {
    const server = await serve(() => new Promise(() => {}));
    const controller = new AbortController();
    const reason = { why: 'not even an error' };
    server.intercept = () => void controller.abort(reason);
    const send = transportTo(server.url).send({ method: 'GET', url: '/v2/', signal: controller.signal });
    await expect(send).rejects.toBe(reason);
    expect(server.requests).toHaveLength(1);
  });
});

describe('Retry-After', () => {
  it('is waited for exactly, neither less nor clamped', async () => {
    const clock = fakeClock();
    const server = await serve(
      answering(reply(429, { 'retry-after': '60' }), reply(503, { 'retry-after': '31' })),
    );
    const response = await transportTo(server.url, { clock }).send({ method: 'GET', url: '/v2/' });
    expect(response.status).toBe(200);
    expect(clock.slept).toEqual([60_000, 31_000]);
  });

  it('is read as a date', async () => {
    const clock = fakeClock();
    const date = new Date(clock.now() + 42_000).toUTCString();
    const server = await serve(answering(reply(429, { 'retry-after': date })));
    await transportTo(server.url, { clock }).send({ method: 'GET', url: '/v2/' });
    expect(clock.slept).toEqual([42_000]);
  });

  it.each(['0', 'Sun, 06 Nov 1994 08:49:37 GMT'])('of %s is no time to come back at', async (retryAfter) => {
    const clock = fakeClock();
    const server = await serve(
      answering(reply(429, { 'retry-after': retryAfter }), reply(503, { 'retry-after': retryAfter })),
    );
    await transportTo(server.url, { clock }).send({ method: 'GET', url: '/v2/' });
    expect(server.requests).toHaveLength(3);
    expect(clock.slept).toHaveLength(2);
    expect(clock.slept[0]).toBeGreaterThanOrEqual(1000);
  });

  it('of more than a minute is an error at once that says until when', async () => {
    const clock = fakeClock();
    const server = await serve(() => reply(429, { 'retry-after': '3600' }));
    const transport = transportTo(server.url, { clock });
    const until = clock.now() + 3_600_000;
    const error = { code: 'ERR_RATE_LIMITED', retryAt: until, retryable: true };
    await expect(transport.send({ method: 'GET', url: '/v2/' })).rejects.toMatchObject(error);
    // And from now on without asking again.
    await expect(transport.send({ method: 'HEAD', url: '/v2/' })).rejects.toMatchObject(error);
    expect(server.requests).toHaveLength(1);
    expect(clock.slept).toEqual([]);
  });

  it('of more than a minute for a pull leaves everything else alone', async () => {
    const server = await serve(({ method }) =>
      method === 'GET' ? reply(429, { 'retry-after': '3600' }) : reply(200),
    );
    const transport = transportTo(server.url);
    const pull = { method: 'GET', url: '/v2/a/manifests/1', pull: true } as const;
    await expect(transport.send(pull)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
    await expect(transport.send(pull)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
    expect((await transport.send({ method: 'HEAD', url: '/v2/a/manifests/1' })).status).toBe(200);
    expect(server.requests).toHaveLength(2);
  });

  it('is waited for as long as the caller allows', async () => {
    const clock = fakeClock();
    const server = await serve(answering(reply(429, { 'retry-after': '3600' })));
    const transport = transportTo(server.url, { clock, maxWaitMs: 7_200_000 });
    expect((await transport.send({ method: 'GET', url: '/v2/' })).status).toBe(200);
    expect(clock.slept).toEqual([3_600_000]);
  });

  it('holds up every transport that shares the gate, and is told', async () => {
    const clock = fakeClock();
    const told: number[] = [];
    const gate = createHostGate({ clock, onWaiting: (_host, until) => told.push(until) });
    const server = await serve(answering(reply(429, { 'retry-after': '30' })));
    const until = clock.now() + 30_000;
    const first = transportTo(server.url, { clock, gate, retries: 0 });
    expect((await first.send({ method: 'GET', url: '/v2/' })).status).toBe(429);
    await transportTo(server.url, { clock, gate }).send({
      method: 'PUT',
      url: '/v2/',
      body: Buffer.from('x'),
    });
    expect(clock.slept).toEqual([30_000]);
    expect(told).toEqual([until]);
  });

  it('counts every request that goes out', async () => {
    const server = await serve(answering(reply(500), 'reset'));
    const observer = countingObserver();
    await transportTo(server.url).send({ method: 'GET', url: '/v2/', observer });
    expect(observer.requests).toBe(3);
  });
});
