/** How blobs travel: what is sent, what is sent again, and what is never sent twice. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StoppedError } from '../../../lib/sync/concurrency.ts';
import { checkpointKey } from '../../../lib/sync/copy/checkpoint.ts';
import type { SyncEvent } from '../../../lib/sync/runs/events.ts';
import { buildBlob, buildIndex, buildManifest, type Content, randomBlob } from '../../local/content.ts';
import type { Intervention, LoggedRequest } from '../../local/server.ts';
import { Bench, chunkBytes, MiB } from './support.ts';

let bench: Bench;
beforeEach(async () => {
  bench = await Bench.start();
});
afterEach(async () => {
  vi.useRealTimers();
  await bench.close();
});

const outcomes = (copied: { lines: readonly { outcome: string }[] }) =>
  copied.lines.map(({ outcome }) => outcome);

function blobOf(content: Content) {
  const [, blob] = content.blobs;
  if (blob === undefined) throw new Error('The content has no such blob');
  return blob.descriptor;
}

/** Steps in at the nth request that fits. */
function atThe(nth: number, fits: (request: LoggedRequest) => boolean, intervention: Intervention) {
  let seen = 0;
  return (request: LoggedRequest) => {
    if (fits(request)) seen += 1;
    return fits(request) && seen === nth ? intervention : undefined;
  };
}

const isPatch = ({ method }: LoggedRequest) => method === 'PATCH';
const isBlobPut = ({ method, url }: LoggedRequest) => method === 'PUT' && url.includes('/uploads/');
const isBlobGet = ({ method, url }: LoggedRequest) => method === 'GET' && url.includes('/blobs/sha256');

/** Body bytes that reached the target as blobs. */
const sentBytes = () =>
  bench.target.requests
    .filter(({ method, url }) => method === 'PATCH' || (method === 'PUT' && url.includes('/blobs/')))
    .reduce((sum, { received }) => sum + received, 0);

describe('a blob', () => {
  it('of several chunks goes up in chunks of at most what the target takes, each with its range', async () => {
    const content = buildManifest({ layers: [5 * MiB + 7] });
    bench.push('1', content);
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    const patches = bench.asked(bench.target, 'PATCH', '/uploads/');
    expect(patches.map(({ headers }) => headers['content-range'])).toEqual(
      [0, 1, 2, 3, 4].map((at) => `${at * chunkBytes}-${(at + 1) * chunkBytes - 1}`),
    );
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it('that is a whole number of chunks holds the last one back for the closing PUT', async () => {
    bench.push('1', buildManifest({ layers: [3 * MiB] }));
    await bench.engine().copy();
    expect(bench.asked(bench.target, 'PATCH', '/uploads/')).toHaveLength(2);
    const closing = bench.asked(bench.target, 'PUT', '/uploads/').map(({ received }) => received);
    expect(closing).toContain(MiB);
  });

  it('without a byte is one empty PUT', async () => {
    bench.push('1', buildManifest({ layers: [buildBlob(new Uint8Array(0))] }));
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.asked(bench.target, 'PATCH', '/uploads/')).toEqual([]);
  });

  it('without a byte whose digest is that of some fails by its size, for nothing was served', async () => {
    const { descriptor } = randomBlob('some', 10);
    const nothing = { ...buildBlob(new Uint8Array(0)), descriptor: { ...descriptor, size: 0 } };
    bench.push('1', buildManifest({ layers: [nothing] }));
    const copied = await bench.engine().copy();
    expect(copied.lines[0]?.error?.code).toBe('ERR_SIZE_MISMATCH');
    expect(bench.asked(bench.source, 'GET', descriptor.digest)).toEqual([]);
    expect(bench.target.repository('m/b').blobs.has(descriptor.digest)).toBe(false);
  });

  it('for which the target wants larger chunks than memory holds fails before a byte is sent', async () => {
    const content = buildManifest({ layers: [6 * MiB] });
    bench.push('1', content);
    bench.target.behaviour.minChunk = 5 * MiB;
    const copied = await bench.engine({ chunkMemory: 4 * MiB }).copy();
    const { error } = copied.lines[0] ?? {};
    expect(error?.code).toBe('ERR_UNSUPPORTED');
    expect(error?.message).toContain(`${5 * MiB} bytes`);
    expect(error?.message).toContain(`${4 * MiB}`);
    expect(bench.asked(bench.target, 'PATCH', '/uploads/')).toEqual([]);
    expect(bench.asked(bench.source, 'GET', blobOf(content).digest)).toEqual([]);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it('that one chunk in memory holds needs no larger ones, whatever the target wants', async () => {
    const content = buildManifest({ layers: [3 * MiB] });
    bench.push('1', content);
    bench.target.behaviour.minChunk = 5 * MiB;
    expect(outcomes(await bench.engine({ chunkMemory: 4 * MiB }).copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it('that the target has is not asked of the source', async () => {
    bench.push('1', buildManifest({ layers: [1000] }));
    const engine = bench.engine();
    await engine.copy();
    bench.push('2', buildManifest({ layers: [1000], annotations: { other: 'manifest' } }));
    bench.source.requests.length = 0;
    const { tally } = await bench.engine().copy({ tag: '2' });
    expect(bench.asked(bench.source, 'GET', '/blobs/')).toEqual([]);
    expect(tally.totals()).toMatchObject({ blobsCopied: 0, blobsExisting: 2 });
  });

  it('that two manifests share is copied once, and is no find', async () => {
    const shared = randomBlob('shared', 2 * MiB);
    bench.push('1', buildManifest({ layers: [shared] }));
    bench.push('2', buildManifest({ layers: [shared], annotations: { other: 'manifest' } }));
    const engine = bench.engine();
    const [one, two] = await Promise.all([engine.copy(), engine.copy({ tag: '2' })]);
    expect([...outcomes(one), ...outcomes(two)]).toEqual(['copied', 'copied']);
    expect(bench.asked(bench.source, 'GET', `/blobs/${shared.descriptor.digest}`)).toHaveLength(1);
  });

  it('that another repository got before is mounted from there', async () => {
    const content = buildManifest({ layers: [2 * MiB] });
    bench.push('1', content);
    await bench.engine().copy();
    bench.source.requests.length = 0;
    const { tally } = await bench.engine().copy({ target: 'm/other' });
    expect(bench.digestAt('1', 'm/other')).toBe(content.descriptor.digest);
    expect(tally.blobsMounted).toBe(1);
    expect(bench.asked(bench.source, 'GET', `/blobs/${blobOf(content).digest}`)).toEqual([]);
  });

  it('that the nearest repository has lost is mounted from the next one, and that one is asked no more', async () => {
    const content = buildManifest({ layers: [2 * MiB] });
    bench.push('1', content);
    for (const target of ['far/away', 'm/other']) await bench.engine().copy({ target });
    const mounts = () =>
      bench.asked(bench.target, 'POST', `mount=${encodeURIComponent(blobOf(content).digest)}`);
    for (const asked of [2, 1]) {
      for (const lost of ['m/other', 'm/b']) bench.target.store.repositories.delete(lost);
      bench.target.requests.length = 0;
      bench.source.requests.length = 0;
      const { tally } = await bench.engine().copy({ target: 'm/b' });
      expect(tally.blobsMounted).toBe(1);
      expect(mounts()).toHaveLength(asked);
      expect(bench.asked(bench.source, 'GET', `/blobs/${blobOf(content).digest}`)).toEqual([]);
      expect(bench.target.store.uploads.size).toBe(0);
    }
  });

  it.each([503, 403])(
    'whose mount was answered with %i is mounted from the same repository the next time',
    async (status) => {
      const content = buildManifest({ layers: [2 * MiB] });
      bench.push('1', content);
      await bench.engine().copy({ target: 'far/away' });
      bench.target.intercept = ({ url }) => (url.includes('mount=') ? { kind: 'answer', status } : undefined);
      expect((await bench.engine().copy({ target: 'm/other' })).tally.blobsMounted).toBe(0);
      bench.target.intercept = undefined;
      bench.target.store.repositories.delete('m/other');
      expect((await bench.engine().copy({ target: 'm/b' })).tally.blobsMounted).toBe(1);
    },
  );

  it('whose mount is declined goes through the session that was opened instead', async () => {
    const content = buildManifest({ layers: [2 * MiB] });
    bench.push('1', content);
    await bench.engine().copy();
    bench.target.behaviour.mounts = false;
    const { tally } = await bench.engine().copy({ target: 'm/other' });
    expect(tally.blobsMounted).toBe(0);
    expect(bench.digestAt('1', 'm/other')).toBe(content.descriptor.digest);
    expect(bench.target.store.uploads.size).toBe(0);
  });
});

describe('a download that breaks', () => {
  it('goes on at its offset into the same upload', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    bench.source.intercept = atThe(1, isBlobGetOf(content), { kind: 'cut', after: 2.5 * MiB });
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    const ranges = bench
      .asked(bench.source, 'GET', blobOf(content).digest)
      .map(({ headers }) => headers.range);
    expect(ranges).toHaveLength(2);
    expect(ranges[1]).toMatch(/^bytes=[1-9]\d+-/);
    expect(sentBytes()).toBe(4 * MiB + (content.blobs[0]?.descriptor.size ?? 0));
  });

  it.each([400, 405, 416, 501])('goes on where a range is refused with %i', async (status) => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    const isIts = isBlobGetOf(content);
    const cut = atThe(1, isIts, { kind: 'cut', after: 2.5 * MiB });
    bench.source.intercept = (request) =>
      isIts(request) && request.headers.range !== undefined ? { kind: 'answer', status } : cut(request);
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
    expect(sentBytes()).toBe(4 * MiB + (content.blobs[0]?.descriptor.size ?? 0));
  });

  it.each([
    [
      '416 with its end',
      { kind: 'answer', status: 416, headers: { 'content-range': `bytes */${2 * MiB}` } },
      2,
    ],
    ['416 without it, but is whole and short', { kind: 'answer', status: 416 }, 3],
  ] as const)('and then says %s is too short', async (_, answer, gets) => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    bench.source.repository('a/b').blobs.set(blobOf(content).digest, randomBlob('short', 2 * MiB));
    const isIts = isBlobGetOf(content);
    bench.source.intercept = (request) =>
      isIts(request) && request.headers.range !== undefined ? answer : undefined;
    const copied = await bench.engine().copy();
    expect(copied.lines[0]?.error?.code).toBe('ERR_SIZE_MISMATCH');
    expect(copied.lines[0]?.error?.message).toContain('ends');
    expect(bench.asked(bench.source, 'GET', blobOf(content).digest)).toHaveLength(gets);
  });

  it('again and again at the same byte is given up, and the tag has failed', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    const isIts = isBlobGetOf(content);
    let gets = 0;
    bench.source.intercept = (request) => {
      if (!isIts(request)) return undefined;
      gets += 1;
      return { kind: 'cut', after: gets === 1 ? MiB : 0 };
    };
    const copied = await bench.engine().copy();
    expect(outcomes(copied)).toEqual(['failed']);
    expect(copied.lines[0]?.error?.code).toBe('ERR_CONNECTION');
    expect(bench.digestAt('1')).toBeUndefined();
  });

  it.each([3000, 3 * MiB])('or drips with %i bytes is given up, and the tag has failed', async (size) => {
    const content = buildManifest({ layers: [size] });
    bench.push('1', content);
    const { blobs } = bench.source.repository('a/b');
    for (const blob of content.blobs) {
      const open = async function* (start: number, end: number) {
        for (let at = start; at < end; at += 1) {
          yield* blob.open(at, at + 1);
          await delay(2);
        }
      };
      blobs.set(blob.descriptor.digest, { ...blob, open });
    }
    const { lines, retry } = await bench.engine({ slowest: { bytes: 120, ms: 20 } }).copy();
    expect(lines[0]).toMatchObject({ outcome: 'failed', error: { code: 'ERR_TIMEOUT' } });
    expect(retry).toBeDefined();
  });

  it('for a slow target is not slow itself', async () => {
    const content = buildManifest({ layers: [6 * MiB] });
    bench.push('1', content);
    const slowest = { bytes: 100 * MiB, ms: 1000 };
    let waits = 0;
    bench.target.intercept = async (request) => {
      if (!isPatch(request)) return undefined;
      waits += 1;
      await delay(400);
      return undefined;
    };
    expect(outcomes(await bench.engine({ slowest }).copy())).toEqual(['copied']);
    expect(waits).toBe(5);
  }, 20_000);

  it('is verified all the same: other bytes never become the blob', async () => {
    const content = buildManifest({ layers: [3 * MiB] });
    bench.push('1', content);
    const { digest } = blobOf(content);
    bench.source.repository('a/b').blobs.set(digest, randomBlob('forged', 3 * MiB));
    const copied = await bench.engine().copy();
    expect(copied.lines[0]?.error?.code).toBe('ERR_DIGEST_MISMATCH');
    expect(bench.target.repository('m/b').blobs.has(digest)).toBe(false);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it.each([3001, 2999])(
    'of %d bytes where the manifest says 3000 fails, and is not at the target',
    async (size) => {
      const content = buildManifest({ layers: [3000] });
      bench.push('1', content);
      const { digest } = blobOf(content);
      bench.source.repository('a/b').blobs.set(digest, randomBlob('other', size));
      const copied = await bench.engine().copy();
      expect(copied.lines[0]?.error?.code).toBe('ERR_SIZE_MISMATCH');
      expect(bench.target.repository('m/b').blobs.has(digest)).toBe(false);
    },
  );
});

function isBlobGetOf(content: Content) {
  const { digest } = blobOf(content);
  return (request: LoggedRequest) => isBlobGet(request) && request.url.includes(digest);
}

/** What a target answers to a closing PUT after other bytes than the digest says. */
const mismatch: Intervention = {
  kind: 'answer',
  status: 400,
  body: JSON.stringify({ errors: [{ code: 'DIGEST_INVALID' }] }),
};

const isOf = ({ url }: LoggedRequest, digest: string) => url.includes(digest.slice(7));

describe('an upload that breaks', () => {
  it('with the answer to a chunk lost asks where it stands and repeats nothing', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    bench.target.intercept = atThe(2, isPatch, { kind: 'lose' });
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it('with answers lost counts what arrived all the same', async () => {
    const content = buildManifest({ layers: [4.5 * MiB] });
    bench.push('1', content);
    bench.target.behaviour.signedLocations = false;
    const loses = ({ method, url }: LoggedRequest) =>
      method === 'PATCH' || (method === 'PUT' && url.includes(blobOf(content).digest.slice(7)));
    bench.target.intercept = (request) => (loses(request) ? { kind: 'lose' } : undefined);
    const { tally, lines } = await bench.engine().copy();
    expect(lines).toMatchObject([{ outcome: 'copied', bytes: tally.bytesCopied }]);
    expect(tally.bytesCopied).toBe(
      content.blobs.reduce((sum, { size }) => sum + size, content.descriptor.size),
    );
    expect(sentBytes() + content.descriptor.size).toBe(tally.bytesCopied);
  });

  it('with its session lost starts that blob again', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    let patches = 0;
    bench.target.intercept = (request) => {
      if (isPatch(request)) patches += 1;
      if (patches === 3) bench.target.loseUploads();
      return undefined;
    };
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it('at a target that cannot tell where it stands leaves no session behind', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    const fails = atThe(2, isPatch, { kind: 'answer', status: 500 });
    bench.target.intercept = (request) =>
      request.method === 'GET' && request.url.includes('/uploads/')
        ? { kind: 'answer', status: 405 }
        : fails(request);
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it('at the closing PUT of a small blob leaves no session behind', async () => {
    bench.push('1', buildManifest({ layers: [1000] }));
    bench.target.intercept = atThe(1, isBlobPut, { kind: 'answer', status: 500 });
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it('by damage on the way of a small blob sends it once more, and does not read it again', async () => {
    const content = buildManifest({ layers: [1000] });
    bench.push('1', content);
    const isPut = (request: LoggedRequest) => isBlobPut(request) && isOf(request, blobOf(content).digest);
    bench.target.intercept = atThe(1, isPut, mismatch);
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.asked(bench.source, 'GET', blobOf(content).digest)).toHaveLength(1);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it('by damage each time fails with the mismatch', async () => {
    const content = buildManifest({ layers: [1000] });
    bench.push('1', content);
    let puts = 0;
    bench.target.intercept = (request) => {
      if (!isBlobPut(request) || !isOf(request, blobOf(content).digest)) return undefined;
      puts += 1;
      return mismatch;
    };
    const { lines } = await bench.engine().copy();
    expect(lines).toMatchObject([{ outcome: 'failed', error: { code: 'ERR_DIGEST_MISMATCH' } }]);
    expect(puts).toBe(2);
  });

  it('with the answer to its closing PUT lost finds the blob and goes on', async () => {
    const content = buildManifest({ layers: [2.5 * MiB] });
    bench.push('1', content);
    const isClosing = ({ method, url }: LoggedRequest) =>
      method === 'PUT' && url.includes(blobOf(content).digest.slice(7));
    bench.target.intercept = atThe(1, isClosing, { kind: 'lose' });
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });
});

describe('a target that claims to have more than the whole blob', () => {
  const content = buildManifest({ layers: [4 * MiB] });
  const whole = content.blobs.reduce((sum, { size }) => sum + size, content.descriptor.size);
  const claims = ({ method, url }: LoggedRequest): Intervention | undefined =>
    method === 'GET' && url.includes('/uploads/')
      ? { kind: 'answer', status: 204, headers: { range: `0-${50 * MiB}` } }
      : undefined;
  beforeEach(() => bench.push('1', content));

  it('after a lost answer has lost the upload, and what it never got does not count', async () => {
    const fails = atThe(3, isPatch, { kind: 'reset' });
    bench.target.intercept = (request) => claims(request) ?? fails(request);
    const { lines, tally } = await bench.engine().copy();
    expect(outcomes({ lines })).toEqual(['copied']);
    expect(tally.bytesCopied).toBe(whole + 2 * MiB);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it('to another process has nothing of it', async () => {
    await stopAfter(2 * MiB);
    bench.target.intercept = claims;
    const { lines, tally } = await bench.engine().copy();
    expect(outcomes({ lines })).toEqual(['copied']);
    const config = content.blobs[0]?.size ?? 0;
    expect(tally.kept).toBe(config);
    expect(lines).toMatchObject([{ bytes: whole - config }]);
  });
});

describe('a target that keeps losing an upload', () => {
  it.each([
    ['at its end', isBlobPut],
    [
      'at its second chunk',
      (request: LoggedRequest) => /^1048576-/.test(String(request.headers['content-range'])),
    ],
  ])(
    '%s is given up after some attempts, each of which is told',
    async (_, fits) => {
      const content = buildManifest({ layers: [3 * MiB] });
      bench.push('1', content);
      bench.target.intercept = (request) => {
        if (!fits(request) || request.url.includes(content.blobs[0]?.descriptor.digest.slice(7) ?? ''))
          return undefined;
        bench.target.loseUploads();
        return { kind: 'answer', status: 500 };
      };
      const told: string[] = [];
      const onEvent = (event: SyncEvent) => {
        if (event.type === 'log') told.push(event.message);
      };
      expect(outcomes(await bench.engine().copy({ onEvent }))).toEqual(['failed']);
      expect(sentBytes()).toBeLessThan(6 * 3 * MiB);
      expect(new Set(told)).toEqual(new Set(['upload begins anew']));
    },
    60_000,
  );

  it('and is away for a while is asked again where the upload stands', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    const breaks = atThe(2, isPatch, { kind: 'reset' });
    let asked = 0;
    bench.target.intercept = (request) => {
      const isAsked = request.method === 'GET' && request.url.includes('/uploads/');
      if (isAsked) asked += 1;
      return isAsked && asked <= 3 ? { kind: 'reset' } : breaks(request);
    };
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(asked).toBeGreaterThan(3);
    expect(sentBytes()).toBeLessThan(5.5 * MiB);
  });
});

describe('a manifest', () => {
  const unknown = JSON.stringify({ errors: [{ code: 'MANIFEST_BLOB_UNKNOWN' }] });
  const isManifestPut = ({ method, url }: LoggedRequest) => method === 'PUT' && url.includes('/manifests/');
  const refuse = (times: number) => {
    let refused = 0;
    bench.target.intercept = (request) =>
      isManifestPut(request) && ++refused <= times
        ? { kind: 'answer', status: 400, body: unknown }
        : undefined;
  };

  it('is pushed again to a replica that does not know yet what another one has', async () => {
    bench.push('1', buildManifest());
    refuse(3);
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
  });

  it('whose blobs stay unknown to the target fails for now', async () => {
    bench.push('1', buildManifest());
    refuse(Number.POSITIVE_INFINITY);
    const { lines, retry } = await bench.engine({ retries: 1 }).copy();
    expect(lines).toMatchObject([{ outcome: 'failed', error: { code: 'ERR_BLOB_UNKNOWN' } }]);
    expect(retry).toMatchObject({ code: 'ERR_BLOB_UNKNOWN' });
    expect(bench.target.requests.filter(isManifestPut)).toHaveLength(3);
  });
});

it('bytes that were damaged on their way are sent a second time, also without another attempt', async () => {
  bench.push('1', buildManifest({ layers: [1000] }));
  bench.target.intercept = atThe(1, isBlobPut, mismatch);
  expect(outcomes(await bench.engine({ retries: 0 }).copy())).toEqual(['copied']);
});

describe('what only tidies up', () => {
  const refusesDeletes = ({ method }: LoggedRequest): Intervention | undefined =>
    method === 'DELETE' ? { kind: 'answer', status: 403 } : undefined;

  it('may be refused when other bytes came than the digest says', async () => {
    const content = buildManifest({ layers: [3 * MiB] });
    bench.push('1', content);
    bench.source.repository('a/b').blobs.set(blobOf(content).digest, randomBlob('forged', 3 * MiB));
    bench.target.intercept = refusesDeletes;
    const { lines } = await bench.engine().copy();
    expect(lines[0]?.error?.code).toBe('ERR_DIGEST_MISMATCH');
  });

  it('may be refused for a session that a declined mount opened beside the one that goes on', async () => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    await bench.engine().copy();
    bench.target.behaviour.mounts = false;
    await stopAfter(3 * MiB, 'm/other');
    bench.target.intercept = refusesDeletes;
    expect(outcomes(await bench.engine().copy({ target: 'm/other' }))).toEqual(['copied']);
    expect(bench.digestAt('1', 'm/other')).toBe(content.descriptor.digest);
  });

  it('leaves no session of a declined mount where another process brings the blob', async () => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    await bench.engine().copy();
    bench.target.behaviour.mounts = false;
    const both = [bench.engine(), bench.engine()].map((engine) => engine.copy({ target: 'm/other' }));
    expect((await Promise.all(both)).flatMap(outcomes)).toContain('copied');
    expect(bench.target.store.uploads.size).toBe(0);
  });
});

it('a begun upload of a blob that another process has brought meanwhile is cancelled', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const content = buildManifest({ layers: [8 * MiB] });
  bench.push('1', content);
  await bench.engine().copy();
  bench.target.behaviour.mounts = false;
  await stopAfter(3 * MiB, 'm/other');
  expect(bench.target.store.uploads.size).toBe(1);
  const { digest } = blobOf(content);
  const there = bench.target.repository('m/b').blobs.get(digest);
  bench.target.intercept = ({ method, url }) => {
    if (method !== 'POST' || !url.includes(encodeURIComponent(digest))) return undefined;
    if (there !== undefined) bench.target.repository('m/other').putBlob(digest, there);
    vi.setSystemTime(Date.now() + 2000);
    return undefined;
  };
  expect(outcomes(await bench.engine().copy({ target: 'm/other' }))).toEqual(['copied']);
  expect(bench.target.store.uploads.size).toBe(0);
});

it('a blob that another process has brought while the target held this one up is not sent again', async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  const content = buildManifest({ layers: [8 * MiB] });
  bench.push('1', content);
  await bench.engine().copy();
  bench.target.behaviour.mounts = false;
  bench.target.requests.length = 0;
  const [asked, brought] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let mounts = 0;
  bench.target.intercept = async ({ method, url }) => {
    const isMount =
      method === 'POST' && url.includes('mount=') && url.includes(encodeURIComponent(blobOf(content).digest));
    if (!isMount || ++mounts > 1) return undefined;
    asked.resolve();
    await brought.promise;
    vi.setSystemTime(Date.now() + 2000);
    return undefined;
  };
  const heldUp = bench.engine().copy({ target: 'm/other' });
  await asked.promise;
  expect(outcomes(await bench.engine().copy({ target: 'm/other' }))).toEqual(['copied']);
  const sent = sentBytes();
  brought.resolve();
  expect(outcomes(await heldUp)).not.toContain('failed');
  expect(sentBytes()).toBe(sent);
  expect(bench.target.store.uploads.size).toBe(0);
});

it.each([1000, 3 * MiB])(
  'a blob of %i bytes whose mount is declined and that the source has lost leaves no session behind',
  async (size) => {
    const content = buildManifest({ layers: [size] });
    bench.push('1', content);
    const engine = bench.engine();
    await engine.copy();
    bench.target.behaviour.mounts = false;
    bench.source.repository('a/b').blobs.delete(blobOf(content).digest);
    expect(outcomes(await engine.copy({ target: 'm/other' }))).toEqual(['failed']);
    expect(bench.target.store.uploads.size).toBe(0);
  },
);

it('a mount that brought nothing is no mount', async () => {
  const content = buildManifest({ layers: [2 * MiB] });
  bench.push('1', content);
  await bench.engine().copy();
  bench.target.intercept = ({ method, url }) =>
    method === 'POST' && url.includes('mount=') ? { kind: 'answer', status: 201 } : undefined;
  const { tally, lines } = await bench.engine().copy({ target: 'm/other' });
  expect(outcomes({ lines })).toEqual(['copied']);
  expect(tally.blobsMounted).toBe(0);
});

describe('a large chunk that is refused after all of it has left', () => {
  const chunk = 32 * MiB;
  /** Of a share of 40 MiB. */
  const beside = 8 * MiB;
  /** What all sockets between the source and its reader may hold beside what the reader has. */
  const inSockets = 12 * MiB;
  const refusals = [
    [401, { 'www-authenticate': 'Basic realm="x"' }],
    [429, { 'retry-after': '0' }],
  ] as const;
  const readings = (content: Content) => bench.asked(bench.source, 'GET', blobOf(content).digest);
  const ranges = (content: Content) => readings(content).map(({ headers: { range } }) => range);
  const firstChunk = () => bench.asked(bench.target, 'PATCH', '/uploads/')[0]?.received;
  /** Until more has been read than there is room for beside two whole chunks. */
  const untilTaken = (content: Content) => () => {
    const sent = () => readings(content).at(-1)?.sent;
    return vi.waitFor(() => expect(sent()).toBeGreaterThan(2 * chunk + beside + inSockets), {
      timeout: 10_000,
    });
  };

  it.each(refusals)(
    'with %d is read again where the next has its memory',
    async (status, headers) => {
      const content = buildManifest({ layers: [112 * MiB] });
      bench.push('1', content);
      const late = untilTaken(content);
      bench.target.intercept = atThe(2, isPatch, { kind: 'answer', status, headers, late });
      expect(outcomes(await bench.engine({}, chunk).copy())).toEqual(['copied']);
      expect(bench.digestAt('1')).toBe(content.descriptor.digest);
      expect(ranges(content)).toEqual([undefined, `bytes=${firstChunk()}-`]);
    },
    20_000,
  );

  it.each([0, 1])(
    'with 429 is sent again as it is where nobody needs its memory, after %d others',
    async (before) => {
      const content = buildManifest({ layers: [(before + 1) * chunk + MiB] });
      bench.push('1', content);
      const late = async () => {};
      bench.target.intercept = atThe(before + 1, isPatch, { kind: 'answer', status: 429, late });
      expect(outcomes(await bench.engine({}, chunk).copy())).toEqual(['copied']);
      expect(bench.digestAt('1')).toBe(content.descriptor.digest);
      expect(readings(content)).toHaveLength(1);
    },
    20_000,
  );

  it.each([
    [401, {}, 'failed', 'ERR_UNAUTHORIZED'],
    [429, { 'retry-after': '0' }, 'deferred', 'ERR_RATE_LIMITED'],
  ] as const)(
    'and again with %d, is told as that refusal, and keeps its session',
    async (...refusal) => {
      const [status, headers, outcome, code] = refusal;
      const content = buildManifest({ layers: [112 * MiB] });
      bench.push('1', content);
      let patches = 0;
      bench.target.intercept = (request) => {
        if (!isPatch(request)) return undefined;
        patches += 1;
        const late = patches === 2 ? untilTaken(content) : async () => {};
        return patches > 1 ? { kind: 'answer', status, headers, late } : undefined;
      };
      const [line] = (await bench.engine({}, chunk).copy()).lines;
      expect(line).toMatchObject({ outcome, error: { code } });
      expect(readings(content)).toHaveLength(2);
      const before = firstChunk();
      bench.target.intercept = undefined;
      bench.source.requests.length = 0;
      expect(outcomes(await bench.engine({}, chunk).copy())).toEqual(['copied']);
      expect(ranges(content)).toEqual([`bytes=${before}-`]);
    },
    30_000,
  );

  it('right after it was resumed is sent again into the same session', async () => {
    const content = buildManifest({ layers: [112 * MiB] });
    bench.push('1', content);
    await stopAfter(3 * MiB);
    bench.source.requests.length = 0;
    bench.target.requests.length = 0;
    const late = async () => {};
    bench.target.intercept = atThe(1, isPatch, { kind: 'answer', status: 429, late });
    expect(outcomes(await bench.engine({}, chunk).copy())).toEqual(['copied']);
    expect(readings(content)).toHaveLength(1);
    expect(bench.asked(bench.target, 'POST', '/uploads/')).toEqual([]);
  }, 20_000);
});

/** Stops once the target has confirmed so many bytes of a blob. */
async function stopAfter(bytes: number, target = 'm/b') {
  const stop = new AbortController();
  const stopped = bench.engine().copy({
    target,
    stop: stop.signal,
    onEvent: (event) => {
      if (event.type === 'blobProgress' && event.offset >= bytes) stop.abort(new StoppedError('stopped'));
    },
  });
  await expect(stopped).rejects.toBeInstanceOf(StoppedError);
}

/** Stops as soon as the source is asked for a blob. */
async function stopAtOnce() {
  const stop = new AbortController();
  bench.source.intercept = ({ url }) => {
    if (url.includes('/blobs/')) stop.abort(new StoppedError('stopped'));
    return undefined;
  };
  await expect(bench.engine().copy({ stop: stop.signal })).rejects.toBeInstanceOf(StoppedError);
  bench.source.intercept = undefined;
}

/** Stops once the source has given so many bytes of a blob, and gives no more. */
async function stopAfterReading(content: Content, bytes: number) {
  const stop = new AbortController();
  let asked = 0;
  bench.source.intercept = (request) => {
    if (!isBlobGetOf(content)(request)) return undefined;
    asked += 1;
    if (asked === 1) return { kind: 'cut', after: bytes };
    stop.abort(new StoppedError('stopped'));
    return new Promise(() => {});
  };
  await expect(bench.engine().copy({ stop: stop.signal })).rejects.toBeInstanceOf(StoppedError);
  bench.source.intercept = undefined;
}

describe('a copy that is stopped', () => {
  it('waits no longer for a target that asks it to wait', async () => {
    bench.push('1', buildManifest({ layers: [4 * MiB] }));
    const stop = new AbortController();
    const asksToWait = atThe(2, isPatch, { kind: 'answer', status: 429, headers: { 'retry-after': '50' } });
    bench.target.intercept = (request) => {
      const answer = asksToWait(request);
      if (answer !== undefined) setImmediate(() => stop.abort(new StoppedError('stopped')));
      return answer;
    };
    await expect(bench.engine().copy({ stop: stop.signal })).rejects.toBeInstanceOf(StoppedError);
    bench.target.intercept = undefined;
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(sentBytes()).toBeLessThan(6 * MiB);
  }, 20_000);

  it('before the first chunk has arrived leaves no session behind', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    const stop = new AbortController();
    bench.source.intercept = (request) => {
      if (isBlobGetOf(content)(request)) stop.abort(new StoppedError('stopped'));
      return undefined;
    };
    await expect(bench.engine().copy({ stop: stop.signal })).rejects.toBeInstanceOf(StoppedError);
    expect(bench.asked(bench.target, 'POST', '/uploads/')).not.toEqual([]);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it('sends what it has of a chunk, and asks for none of that again', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    await stopAfterReading(content, 1.5 * MiB);
    const before = sentBytes();
    expect(before).toBe(1.5 * MiB + (content.blobs[0]?.size ?? 0));
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
    expect(sentBytes()).toBe(before + 2.5 * MiB);
  });

  it('goes on where it stood at a target that is away for a moment just then', async () => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    await stopAfter(6 * MiB);
    const before = sentBytes();
    let asked = 0;
    bench.target.intercept = ({ method, url }) => {
      if (method !== 'GET' || !url.includes('/uploads/')) return undefined;
      asked += 1;
      return asked <= 3 ? { kind: 'answer', status: 503 } : undefined;
    };
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(sentBytes() - before).toBeLessThan(2.5 * MiB);
  });

  it('begins anew at a target that cannot tell where it stood, and leaves no session behind', async () => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    await stopAfter(6 * MiB);
    bench.target.intercept = ({ method, url }) =>
      method === 'GET' && url.includes('/uploads/') ? { kind: 'answer', status: 503 } : undefined;
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
    expect(bench.target.store.uploads.size).toBe(0);
  }, 30_000);

  it.each([401, 403])('goes on where it stood after a source that answers %i for a while', async (status) => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    await stopAfter(6 * MiB);
    const before = sentBytes();
    bench.source.intercept = (request) =>
      isBlobGetOf(content)(request) ? { kind: 'answer', status } : undefined;
    expect(outcomes(await bench.engine().copy())).toEqual(['failed']);
    bench.source.intercept = undefined;
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(sentBytes() - before).toBeLessThan(2.5 * MiB);
  });

  it('goes on where it stood although all of the blob would go at once now', async () => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    await stopAfter(3 * MiB);
    bench.source.requests.length = 0;
    bench.target.requests.length = 0;
    expect(outcomes(await bench.engine({}, 32 * MiB).copy())).toEqual(['copied']);
    const [read] = bench.asked(bench.source, 'GET', blobOf(content).digest);
    expect(read?.headers.range).toMatch(/^bytes=[3-7]\d{6}-$/);
    expect(bench.asked(bench.target, 'POST', '/uploads/')).toEqual([]);
    expect(bench.target.store.uploads.size).toBe(0);
  });

  it('keeps a single byte to itself: with no more than that a session looks like a new one', async () => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    await stopAfterReading(content, 1);
    expect(bench.asked(bench.target, 'PATCH', '/uploads/')).toEqual([]);
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it.each<[string, (request: LoggedRequest) => boolean]>([
    ['a chunk', isPatch],
    ['the closing of an upload', isBlobPut],
    ['a manifest', ({ method, url }) => method === 'PUT' && url.includes('/manifests/')],
  ])('has patience for a target that hangs at %s, but not without end', async (_, hangs) => {
    const content = buildManifest({ layers: [4 * MiB] });
    bench.push('1', content);
    const stop = new AbortController();
    bench.target.intercept = (request) => {
      if (!hangs(request)) return undefined;
      stop.abort(new StoppedError('stopped'));
      return new Promise(() => {});
    };
    const stopped = bench.engine().copy({ stop: stop.signal, graceMs: 20 });
    await expect(stopped).rejects.toBeInstanceOf(StoppedError);
    bench.target.intercept = undefined;
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it.each([410, 403, 500])(
    'starts the blob again where the target answers %i about its session',
    async (status) => {
      const content = buildManifest({ layers: [8 * MiB] });
      bench.push('1', content);
      await stopAfter(3 * MiB);
      bench.target.intercept = ({ method, url }) =>
        method === 'GET' && url.includes('/uploads/') ? { kind: 'answer', status } : undefined;
      expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
      expect(bench.digestAt('1')).toBe(content.descriptor.digest);
    },
  );

  it.each(['http://127.0.0.1:9/v2/m/b/blobs/uploads/x', 'ftp://x/y', 'http://[', ''])(
    'starts the blob again where its session was at %j',
    async (location) => {
      const content = buildManifest({ layers: [8 * MiB] });
      bench.push('1', content);
      await stopAfter(3 * MiB);
      const { checkpoints } = bench.stores;
      for await (const { key } of checkpoints.list('uploads/')) {
        const document = await checkpoints.get(key);
        const checkpoint = JSON.parse(Buffer.from(document?.bytes ?? []).toString());
        await checkpoints.put(key, Buffer.from(JSON.stringify({ ...checkpoint, location })));
      }
      expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
      expect(bench.digestAt('1')).toBe(content.descriptor.digest);
    },
  );

  describe('and whose session tells where it stands, but takes nothing more,', () => {
    const content = buildManifest({ layers: [8 * MiB] });
    beforeEach(async () => {
      bench.push('1', content);
      await stopAfter(3 * MiB);
    });

    it('goes on in a session of its own', async () => {
      const [stuck = ''] = bench.target.store.uploads.keys();
      bench.target.intercept = (request) =>
        isPatch(request) && request.url.includes(stuck) ? { kind: 'answer', status: 500 } : undefined;
      expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
      expect(bench.digestAt('1')).toBe(content.descriptor.digest);
      expect(bench.target.store.uploads.size).toBe(0);
    }, 60_000);

    it('keeps that session where a new one takes nothing either', async () => {
      bench.target.intercept = (request) => (isPatch(request) ? { kind: 'answer', status: 500 } : undefined);
      expect(outcomes(await bench.engine().copy())).toEqual(['failed']);
      bench.target.intercept = undefined;
      bench.target.requests.length = 0;
      expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
      expect(sentBytes()).toBeLessThan(6 * MiB);
    }, 60_000);

    it('is not looked for there again once it was refused for good', async () => {
      const [stuck = ''] = bench.target.store.uploads.keys();
      bench.target.intercept = ({ method, url }) =>
        method !== 'GET' && url.includes(stuck) ? { kind: 'answer', status: 403 } : undefined;
      expect(outcomes(await bench.engine().copy())).toEqual(['failed']);
      expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    });
  });

  it('goes on with chunks that are not too small for the target', async () => {
    const content = buildManifest({ layers: [9 * MiB] });
    bench.push('1', content);
    bench.target.behaviour.minChunk = 2 * MiB;
    await stopAfter(4 * MiB);
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it('and overtaken by another process meanwhile waits for that one where there is time', async () => {
    const content = buildManifest({ layers: [6 * MiB] });
    bench.push('1', content);
    const { checkpoints } = bench.stores;
    const key = checkpointKey(`${bench.target.host}/m/b`, blobOf(content).digest);
    let taken: Promise<unknown> | undefined;
    bench.target.intercept = async (request) => {
      if (
        isPatch(request) &&
        /^3145728-/.test(String(request.headers['content-range'])) &&
        taken === undefined
      ) {
        bench.breakLease(key);
        taken = checkpoints.lease(key, 15).then((lease) => lease?.release());
        await taken;
      }
      return undefined;
    };
    const copied = await bench.engine().copy({ patienceMs: Number.POSITIVE_INFINITY });
    expect(taken).toBeDefined();
    expect(outcomes(copied)).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it('goes on in another process where the target stands, and sends no byte twice', async () => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    await stopAfter(3 * MiB);
    const sentBefore = sentBytes();
    bench.source.requests.length = 0;
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(sentBytes()).toBe(8 * MiB + (content.blobs[0]?.descriptor.size ?? 0));
    const [again] = bench.asked(bench.source, 'GET', blobOf(content).digest);
    expect(again?.headers.range).toBe(`bytes=${sentBefore - (content.blobs[0]?.descriptor.size ?? 0)}-`);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it('starts the blob again where the target has lost the session', async () => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    await stopAfter(3 * MiB);
    bench.target.loseUploads();
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });

  it.each([
    ['in parts', () => stopAfter(3 * MiB), 12 * MiB],
    ['whole', () => stopAtOnce(), 1000],
  ])('pulls no manifest a second time whose blobs go %s', async (_, stop, size) => {
    bench.push('1', buildManifest({ layers: [size] }));
    await stop();
    bench.source.requests.length = 0;
    await bench.engine().copy();
    expect(bench.asked(bench.source, 'GET', '/manifests/')).toEqual([]);
    expect(await Array.fromAsync(bench.stores.checkpoints.list('manifests/'))).toEqual([]);
  });

  it('leaves a resumed blob to the judgement of the target, and copies it from zero when that refuses', async () => {
    const content = buildManifest({ layers: [8 * MiB] });
    bench.push('1', content);
    const { digest } = blobOf(content);
    const blobs = bench.source.repository('a/b').blobs;
    const genuine = blobs.get(digest);
    blobs.set(digest, randomBlob('forged', 8 * MiB));
    await stopAfter(3 * MiB);
    if (genuine !== undefined) blobs.set(digest, genuine);
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    expect(bench.digestAt('1')).toBe(content.descriptor.digest);
  });
});

describe('two processes that want the same blob', () => {
  it('transfer it once: the other waits for it', async () => {
    const content = buildManifest({ layers: [6 * MiB] });
    bench.push('1', content);
    bench.source.behaviour.bytesPerSecond = 8 * MiB;
    const copies = await Promise.all([bench.engine().copy(), bench.engine().copy()]);
    expect(copies.flatMap(outcomes).sort()).toEqual(['copied', 'copied']);
    expect(bench.asked(bench.source, 'GET', blobOf(content).digest)).toHaveLength(1);
  });

  it('let the one that may not wait give its request back', async () => {
    const content = buildManifest({ layers: [6 * MiB] });
    const first = await underWay(content);
    await expect(bench.engine().copy({ patienceMs: 0 })).rejects.toMatchObject({ name: 'BusyError' });
    first.goOn();
    expect(outcomes(await first.copy)).toEqual(['copied']);
  });
});

describe('a blob that two sources have', () => {
  it('comes from the other one where the first, which was asked for it, cannot serve it', async () => {
    const blob = randomBlob('shared', 10);
    const [one, other] = ['one', 'other'].map((seed) => buildManifest({ seed, layers: [blob] })) as [
      Content,
      Content,
    ];
    bench.push('1', one);
    bench.push('2', other, 'a/other');
    const [asked, joined] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    bench.source.intercept = ({ method, url }) => {
      if (method !== 'GET' || !url.includes(`a/b/blobs/${blob.descriptor.digest}`)) return undefined;
      asked.resolve();
      return { kind: 'answer', status: 404, late: () => joined.promise };
    };
    const engine = bench.engine();
    const first = engine.copy();
    await asked.promise;
    const second = engine.copy({ source: 'a/other', tag: '2' });
    const config = other.blobs[0]?.descriptor.digest;
    await vi.waitFor(() => expect([...bench.target.repository('m/b').blobs.keys()]).toContain(config));
    joined.resolve();
    expect([outcomes(await first), outcomes(await second)]).toEqual([['failed'], ['copied']]);
  });
});

describe('a small blob that two requests of one process want', () => {
  it('is sent by the other where the one that sends it is stopped before it tries again', async () => {
    const blob = randomBlob('shared', MiB);
    const [one, other] = ['one', 'other'].map((seed) => buildManifest({ seed, layers: [blob] })) as [
      Content,
      Content,
    ];
    bench.push('1', one);
    bench.push('2', other);
    const { digest } = blob.descriptor;
    const config = other.blobs.find(({ descriptor }) => descriptor.digest !== digest)?.descriptor.digest;
    const [sent, joined] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const stop = new AbortController();
    let puts = 0;
    bench.target.intercept = async ({ method, url }) => {
      if (method === 'DELETE') stop.abort(new StoppedError('stopped'));
      if (method !== 'PUT' || !url.includes(encodeURIComponent(digest)) || ++puts > 1) return undefined;
      sent.resolve();
      await joined.promise;
      return { kind: 'reset' };
    };
    const engine = bench.engine();
    const stopped = engine.copy({ stop: stop.signal });
    await sent.promise;
    const copied = engine.copy({ tag: '2' });
    await vi.waitFor(() => expect([...bench.target.repository('m/b').blobs.keys()]).toContain(config));
    joined.resolve();
    await expect(stopped).rejects.toBeInstanceOf(StoppedError);
    expect(outcomes(await copied)).toEqual(['copied']);
  });
});

describe('a large blob that many requests of one process want', () => {
  const layer = randomBlob('hot', 6 * MiB);
  const contents = Array.from({ length: 8 }, (_, index) =>
    buildManifest({ layers: [layer], annotations: { index: `${index}` } }),
  );

  it('is sent once; a few wait, the others give their requests back at once and come again', async () => {
    for (const [index, content] of contents.entries()) bench.push(`${index}`, content);
    const engine = bench.engine();
    const first = await underWay(contents[0] ?? buildManifest({}), engine, '0');
    const others = contents.slice(1).map((_, index) => engine.copy({ tag: `${index + 1}` }));
    const given = others.map((copy) => copy.then(outcomes, (error: Error) => [error.name]));
    // Those for whom there is no place to wait have an answer before anything arrives.
    const settled: string[][] = [];
    const four = Promise.withResolvers<void>();
    for (const copy of given) {
      copy.then((how) => {
        settled.push(how);
        if (settled.length === 4) four.resolve();
      });
    }
    await four.promise;
    expect(settled).toEqual(Array(4).fill(['BusyError']));
    first.goOn();
    await first.copy;
    expect((await Promise.all(given)).flat().sort()).toEqual([
      ...Array(4).fill('BusyError'),
      ...Array(3).fill('copied'),
    ]);
    expect(bench.asked(bench.source, 'GET', layer.descriptor.digest)).toHaveLength(1);
  });

  it('is waited for by a few pushes, however many copies wait too', async () => {
    const more = [...contents, buildManifest({ layers: [layer], annotations: { index: '8' } })];
    for (const [index, content] of more.entries()) bench.push(`${index}`, content);
    const engine = bench.engine();
    const first = await underWay(contents[0] ?? buildManifest({}), engine, '0');
    const ask = (tag: string, yields: boolean) =>
      engine.copy({ tag, yields }).then(outcomes, (error: Error) => [error.name]);
    const copies = ['1', '2', '3', '4'].map((tag) => ask(tag, true));
    expect(await Promise.race(copies)).toEqual(['BusyError']);
    const pushes = ['5', '6', '7', '8'].map((tag) => ask(tag, false));
    expect(await Promise.race(pushes)).toEqual(['BusyError']);
    first.goOn();
    await first.copy;
    for (const given of [copies, pushes])
      expect((await Promise.all(given)).flat().sort()).toEqual(['BusyError', 'copied', 'copied', 'copied']);
  });

  it('is no longer waited for by the one that brings it from another source, where the first had none', async () => {
    for (const [index, content] of contents.entries()) bench.push(`${index}`, content, 'a/other');
    const engine = bench.engine();
    const [asked, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const first = await underWay(contents[0] ?? buildManifest({}), engine, '0');
    bench.source.repository('a/b').removeBlob(layer.descriptor.digest);
    bench.source.intercept = async ({ url }) => {
      if (!url.includes(`a/other/blobs/${layer.descriptor.digest}`)) return undefined;
      asked.resolve();
      await goOn.promise;
      return undefined;
    };
    const ask = (tag: string) =>
      engine.copy({ source: 'a/other', tag }).then(outcomes, (error: Error) => [error.name]);
    const some = ['1', '2', '3', '4'].map(ask);
    expect(await Promise.race(some)).toEqual(['BusyError']);
    first.goOn();
    await asked.promise;
    const more = ['5', '6'].map(ask);
    expect(await Promise.race(more)).toEqual(['BusyError']);
    goOn.resolve();
    expect((await Promise.all([...some, ...more])).flat().sort()).toEqual([
      ...Array(2).fill('BusyError'),
      ...Array(4).fill('copied'),
    ]);
  });

  it('lets a waiting request go when its patience ends', async () => {
    for (const [index, content] of contents.entries()) bench.push(`${index}`, content);
    const engine = bench.engine();
    const first = await underWay(contents[0] ?? buildManifest({}), engine, '0');
    await expect(engine.copy({ tag: '1', patienceMs: 20 })).rejects.toMatchObject({ name: 'BusyError' });
    first.goOn();
    expect(outcomes(await first.copy)).toEqual(['copied']);
  });
});

describe('manifests that indexes have in common', () => {
  const children = ['amd64', 'arm64', 'arm', 's390x'].map((architecture) => ({
    manifest: buildManifest({ seed: architecture, layers: [6 * MiB] }),
    platform: { os: 'linux', architecture },
  }));
  const contents = Array.from({ length: 5 }, (_, index) =>
    buildIndex(children, { annotations: { index: `${index}` } }),
  );
  const [slow = buildManifest()] = children.map(({ manifest }) => manifest);

  it('are waited for by all who come, for a moment', async () => {
    for (const [index, content] of contents.entries()) bench.push(`${index}`, content);
    const engine = bench.engine();
    const first = await underWay(contents[0] ?? slow, engine, '0', slow);
    const given = ['1', '2', '3', '4'].map((tag) =>
      engine.copy({ tag }).then(outcomes, (error: Error) => [error.name]),
    );
    // They have their own indexes, and are at what all name.
    const { checkpoints } = bench.stores;
    for (const { descriptor } of contents.slice(1))
      await vi.waitFor(async () =>
        expect(await checkpoints.get(`manifests/${descriptor.digest}`)).toBeDefined(),
      );
    first.goOn();
    await first.copy;
    expect((await Promise.all(given)).flat()).toEqual(Array(4).fill('copied'));
  });

  it('are waited for longer by a few requests, each at all it lacks, and by no others', async () => {
    for (const [index, content] of contents.entries()) bench.push(`${index}`, content);
    const engine = bench.engine();
    const first = await underWay(contents[0] ?? slow, engine, '0', slow);
    const given = ['1', '2', '3', '4'].map((tag) =>
      engine.copy({ tag }).then(outcomes, (error: Error) => [error.name]),
    );
    expect(await Promise.race(given)).toEqual(['BusyError']);
    first.goOn();
    await first.copy;
    expect((await Promise.all(given)).flat().sort()).toEqual(['BusyError', 'copied', 'copied', 'copied']);
  });

  it('let a waiting request go when its patience ends', async () => {
    for (const [index, content] of contents.entries()) bench.push(`${index}`, content);
    const engine = bench.engine();
    const first = await underWay(contents[0] ?? slow, engine, '0', slow);
    await expect(engine.copy({ tag: '1', patienceMs: 20 })).rejects.toMatchObject({ name: 'BusyError' });
    first.goOn();
    expect(outcomes(await first.copy)).toEqual(['copied']);
  });
});

describe('a push', () => {
  it.each([
    ['places', { blobs: 4, keptForPushes: { blobs: 2, chunkMemory: 0 } }],
    ['memory', { chunkMemory: 3 * MiB, keptForPushes: { blobs: 2, chunkMemory: MiB } }],
  ])('does not wait for copies that have all the %s', async (_what, limits) => {
    const backlog = Array.from({ length: 6 }, (_, index) => {
      const content = buildManifest({ layers: [randomBlob(`backlog ${index}`, MiB)] });
      bench.push(`${index}`, content);
      return blobOf(content).digest;
    });
    bench.push('pushed', buildManifest({ layers: [randomBlob('pushed', MiB)] }));
    const goOn = Promise.withResolvers<void>();
    const both = Promise.withResolvers<void>();
    let waiting = 0;
    bench.source.intercept = async ({ url }) => {
      if (!backlog.some((digest) => url.includes(digest))) return undefined;
      waiting += 1;
      if (waiting === 2) both.resolve();
      await goOn.promise;
      return undefined;
    };
    const engine = bench.engine(limits);
    const copies = backlog.map((_, index) => engine.copy({ tag: `${index}`, yields: true }));
    await both.promise;
    expect(outcomes(await engine.copy({ tag: 'pushed' }))).toEqual(['copied']);
    expect(waiting).toBe(2);
    goOn.resolve();
    expect((await Promise.all(copies)).flatMap(outcomes)).toEqual(Array(6).fill('copied'));
  });
});

describe('a target that says a blob is missing', () => {
  it('gets everything checked and what is missing sent, once', async () => {
    const content = buildManifest({ layers: [1000, 2000] });
    bench.push('1', content);
    const engine = bench.engine();
    await engine.copy();
    // It vanishes behind the back of a process that has seen it there.
    bench.target.repository('m/b').removeTag('1');
    bench.target.repository('m/b').removeManifest(content.descriptor.digest);
    bench.target.repository('m/b').removeBlob(blobOf(content).digest);
    expect(outcomes(await engine.copy())).toEqual(['copied']);
    expect(bench.target.repository('m/b').blobs.has(blobOf(content).digest)).toBe(true);
  });
});

describe('a tag that moves', () => {
  /** What the tag is as soon as somebody reads a blob of what it was. */
  function movesWithItsBlobs(): Content {
    const next = buildManifest({ layers: [4000] });
    bench.source.intercept = (request) => {
      if (isBlobGet(request)) bench.push('1', next);
      return undefined;
    };
    return next;
  }

  it('shares with its present manifest what both name, without asking', async () => {
    const base = [randomBlob('base', 1000), randomBlob('more', 2000)];
    bench.push('1', buildManifest({ layers: base }));
    await bench.engine().copy();
    bench.push('1', buildManifest({ layers: [...base, 3000] }));
    bench.target.requests.length = 0;
    expect(outcomes(await bench.engine().copy())).toEqual(['copied']);
    const asked = bench.asked(bench.target, 'HEAD', '/blobs/').map(({ url }) => url);
    for (const blob of base) expect(asked.join()).not.toContain(blob.descriptor.digest);
  });

  it('while it is copied ends as superseded, and its new digest is asked for', async () => {
    bench.push('1', buildManifest({ layers: [3000] }));
    const next = movesWithItsBlobs();
    const copied = await bench.engine().copy();
    expect(copied.followUp?.digest).toBe(next.descriptor.digest);
  });

  it('before its own move, which others made not long ago, has one line and is asked for once', async () => {
    bench.push('1', buildManifest({ layers: [1000] }));
    await bench.engine().copy();
    bench.push('1', buildManifest({ layers: [3000] }));
    const next = movesWithItsBlobs();
    const copied = await bench.engine().copy();
    expect(outcomes(copied)).toEqual(['superseded']);
    expect(copied.followUp).toMatchObject({
      digest: next.descriptor.digest,
      tags: [{ source: '1', target: '1' }],
    });
  });

  it('keeps its old manifest when its new one cannot be copied', async () => {
    const old = buildManifest({ layers: [1000] });
    bench.push('1', old);
    await bench.engine().copy();
    const broken = buildManifest({ layers: [2000] });
    bench.push('1', broken);
    bench.source.repository('a/b').removeBlob(blobOf(broken).digest);
    const copied = await bench.engine().copy();
    expect(copied.lines[0]).toMatchObject({ outcome: 'failed', error: { code: 'ERR_BLOB_MISSING' } });
    expect(bench.digestAt('1')).toBe(old.descriptor.digest);
  });
});

/** A copy whose blob has been asked for and does not come until it may go on. */
async function underWay(content: Content, engine = bench.engine(), tag = '1', slow = content) {
  bench.push(tag, content);
  const isIts = isBlobGetOf(slow);
  const waiting = Promise.withResolvers<void>();
  const started = Promise.withResolvers<void>();
  bench.source.intercept = async (request) => {
    if (!isIts(request)) return undefined;
    started.resolve();
    await waiting.promise;
    return undefined;
  };
  const copy = engine.copy({ tag });
  await started.promise;
  return { copy, goOn: waiting.resolve };
}
