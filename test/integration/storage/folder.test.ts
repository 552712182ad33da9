import { type ChildProcess, execFile, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import { FolderLock } from '../../../lib/storage/folder-lock.ts';
import { decodeNames, encodeKey } from '../../../lib/storage/folder-names.ts';
import { type Backing, describeStores } from './contract.ts';

const temporaryFolder = () => mkdtemp(join(tmpdir(), 'hubferry-folder-'));

async function folderBacking(): Promise<Backing> {
  const folder = await temporaryFolder();
  let ahead = 0;
  return {
    open: () => openFolderStores(folder, { now: () => Date.now() + ahead }),
    expire: async () => {
      ahead += 15_001;
    },
    close: () => rm(folder, { recursive: true }),
  };
}

describeStores('a folder', folderBacking);

const bytes = (text: string) => Buffer.from(text);

describe('a folder', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await temporaryFolder();
  });
  afterAll(() => rm(folder, { recursive: true }));

  const filesBelow = async (path: string) =>
    (await readdir(path, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());

  it('is not made by looking into it', async () => {
    const nowhere = join(folder, 'nowhere');
    const { state } = openFolderStores(nowhere);
    expect(await state.get('a')).toBeUndefined();
    expect(await Array.fromAsync(state.list(''))).toEqual([]);
    await expect(stat(nowhere)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('holds documents as plain files that only their owner may read', async () => {
    const place = join(folder, 'private');
    const { checkpoints } = openFolderStores(place);
    await checkpoints.put('uploads/abc', bytes('{"location":"…"}'));
    const path = join(place, 'checkpoints', 'uploads+', 'abc');
    expect(await readFile(path, 'utf8')).toBe('{"location":"…"}');
    const modes = await Promise.all(
      [path, join(path, '..'), join(path, '../..'), place].map(async (it) => (await stat(it)).mode & 0o777),
    );
    expect(modes).toEqual([0o600, 0o700, 0o700, 0o700]);
  });

  it('keeps nothing of what was deleted and released', async () => {
    const place = join(folder, 'tidy');
    const { state } = openFolderStores(place);
    const lease = await state.lease('a/b/c', 15);
    await state.put('a/b/c', bytes('x'), { lease });
    await state.delete('a/b/c', { lease });
    await lease?.release();
    expect(await state.put('d', bytes('x'), { ifMatch: '"none"' })).toBeUndefined();
    expect(await readdir(join(place, 'state'))).toEqual([]);
    expect(await filesBelow(place)).toEqual([]);
  });

  it('loses drafts of processes that were killed an hour ago', async () => {
    const place = join(folder, 'drafts');
    await mkdir(join(place, '.drafts'), { recursive: true });
    for (const name of ['old', 'new']) await writeFile(join(place, '.drafts', name), 'half');
    const longAgo = Date.now() / 1000 - 3_700;
    await utimes(join(place, '.drafts', 'old'), longAgo, longAgo);
    await openFolderStores(place).state.put('a', bytes('x'));
    expect(await readdir(join(place, '.drafts'))).toEqual(['new']);
  });

  it('takes a lease file that was half written for no lease', async () => {
    const place = join(folder, 'half');
    const { state } = openFolderStores(place);
    await state.lease('a', 15);
    await writeFile(join(place, 'state', 'a@lease'), '{"id":"abc","unt');
    expect(await state.lease('a', 15)).toBeDefined();
  });

  it('waits for the lock no longer than its caller does', async () => {
    const place = join(folder, 'locked');
    await mkdir(place);
    await writeFile(join(place, '.lock'), 'another process');
    const giveUp = new AbortController();
    const writing = openFolderStores(place).state.put('a', bytes('x'), { signal: giveUp.signal });
    giveUp.abort(new Error('given up'));
    await expect(writing).rejects.toThrow('given up');
  });

  it.skipIf(process.getuid?.() === 0)('tells what it may not do, and where', async () => {
    const place = join(folder, 'forbidden');
    await mkdir(place);
    await chmod(place, 0o500);
    const error = await openFolderStores(place)
      .state.put('a', bytes('x'))
      .catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'ERR_STORAGE', reason: 'EACCES', retryable: false });
    expect(error.message).toContain(place);
  });

  it('tells what is in the way', async () => {
    const place = join(folder, 'blocked');
    await writeFile(place, 'a file');
    const { state } = openFolderStores(place);
    const attempts = [() => state.put('a', bytes('x')), () => state.get('a'), () => state.lease('a', 15)];
    for (const attempt of attempts) {
      await expect(attempt()).rejects.toMatchObject({
        code: 'ERR_STORAGE',
        reason: expect.stringMatching(/^E[A-Z]+$/),
      });
    }
  });

  it('lists ten thousand documents within seconds', async () => {
    const { state } = openFolderStores(join(folder, 'many'));
    const keys = Array.from({ length: 10_000 }, (_, index) => `mirrored/abc/v${index}`);
    for (const key of keys.slice(0, 1)) await state.put(key, bytes(''));
    await Promise.all(
      keys.map((key) => writeFile(join(folder, 'many', 'state', encodeKey(key)), '', { mode: 0o600 })),
    );
    const start = performance.now();
    const listed = await Array.fromAsync(state.list('mirrored/abc/'));
    expect(listed.map(({ key }) => key)).toEqual(keys.toSorted());
    expect(performance.now() - start).toBeLessThan(5_000);
  });

  it('loses no update of processes that write at the same time, nor one half of it', async () => {
    const place = join(folder, 'processes');
    const { state } = openFolderStores(place);
    await state.put('counter', bytes('0'));
    const writers = await Promise.all(Array.from({ length: 3 }, () => startWriter(place)));
    const ends = writers.map((writer) => once(writer, 'exit'));
    for (const writer of writers) writer.send('go');
    const codes = (await Promise.all(ends)).map(([code]) => code);
    expect(codes).toEqual([0, 0, 0]);
    const counter = await state.get('counter');
    expect(Buffer.from(counter?.bytes ?? []).toString()).toBe('300');
  });

  it('survives a writer that is killed at any time', async () => {
    const place = join(folder, 'kills');
    const { state } = openFolderStores(place);
    await state.put('counter', bytes('0'));
    let least = 0;
    for (let round = 0; round < 3; round++) {
      const writer = await startWriter(place);
      writer.send('go');
      await expect
        .poll(async () => Number(await text(state.get('counter'))), { interval: 1, timeout: 20_000 })
        .toBeGreaterThan(least);
      writer.kill('SIGKILL');
      await once(writer, 'exit');
      const now = Number(await text(state.get('counter')));
      expect(now).toBeGreaterThan(least);
      least = now;
    }
    expect(await state.put('counter', bytes('free'))).toBeDefined();
  }, 90_000);
});

async function text(document: Promise<{ bytes: Uint8Array } | undefined>): Promise<string> {
  return Buffer.from((await document)?.bytes ?? []).toString();
}

/** A process that adds a hundred to the counter, one by one, as soon as it is told to. */
async function startWriter(place: string): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('./folder-writer.ts', import.meta.url));
  const withParent = fileURLToPath(new URL('../../local/with-parent.ts', import.meta.url));
  const child = fork(script, [place], { execArgv: ['--import', withParent] });
  await once(child, 'message');
  return child;
}

describe('what a process holds in a folder', () => {
  let folder: string;
  const holders: Holder[] = [];
  beforeEach(async () => {
    folder = await temporaryFolder();
  });
  afterEach(async () => {
    await Promise.all(holders.splice(0).map((holder) => holder.end()));
    await rm(folder, { recursive: true });
  });

  async function hold(what: 'lease' | 'lock', options?: HolderOptions): Promise<Holder> {
    const holder = await startHolder(folder, what, options);
    holders.push(holder);
    return holder;
  }

  const lease = () => openFolderStores(folder).state.lease('a', 60);

  /** Writes another owner into the lease file, as if another process had taken it. */
  async function changeOwner(change: object): Promise<void> {
    const path = join(folder, 'state', 'a@lease');
    const held = JSON.parse(await readFile(path, 'utf8'));
    await writeFile(path, JSON.stringify({ ...held, owner: { ...held.owner, ...change } }));
  }

  it('stays its own while it lives', async () => {
    await hold('lease');
    expect(await lease()).toBeUndefined();
    await expect(openFolderStores(folder).state.put('a', bytes('x'))).rejects.toMatchObject({
      code: 'ERR_STORAGE',
      retryable: true,
    });
  });

  it('is free as soon as the process is killed', async () => {
    const { kill } = await hold('lease');
    await kill();
    const taken = await lease();
    expect(taken).toBeDefined();
    expect(await lease()).toBeUndefined();
  });

  it('can be written over as soon as the process is killed', async () => {
    const { kill } = await hold('lease');
    await kill();
    expect(await openFolderStores(folder).state.put('a', bytes('x'))).toBeDefined();
  });

  it.runIf(existsSync('/proc/self/stat'))('is free when its number is another process by now', async () => {
    await hold('lease');
    await changeOwner({ start: '1' });
    expect(await lease()).toBeDefined();
  });

  it.runIf(existsSync('/proc/self/stat'))('is free though nobody has reaped the killed process', async () => {
    const { kill } = await hold('lease', { reaped: false });
    await kill();
    expect(await lease()).toBeDefined();
  });

  it.each([{ host: 'elsewhere' }, { space: 'another boot, or another container' }])(
    'stays held where its number means nothing here: %j',
    async (elsewhere) => {
      const { kill } = await hold('lease');
      await changeOwner(elsewhere);
      await kill();
      expect(await lease()).toBeUndefined();
    },
  );

  it.each([undefined, {}, { pid: 0 }, { pid: -1 }, { pid: 'all' }])(
    'stays held by an owner that cannot be read: %j',
    async (owner) => {
      await mkdir(join(folder, 'state'));
      await writeFile(join(folder, 'state', 'a'), '');
      const held = { id: 'x', until: Date.now() + 60_000, owner };
      await writeFile(join(folder, 'state', 'a@lease'), JSON.stringify(held));
      expect(await lease()).toBeUndefined();
    },
  );

  it('lets others through the lock as soon as it is killed inside', async () => {
    const { kill } = await hold('lock');
    const patient = new FolderLock(join(folder, '.lock'), Number.POSITIVE_INFINITY);
    const entered: number[] = [];
    const waiting = Promise.all([1, 2, 3].map((one) => patient.run(() => entered.push(one), undefined)));
    await kill();
    await waiting;
    expect(entered.toSorted()).toEqual([1, 2, 3]);
    expect(await readdir(folder)).toEqual([]);
  });
});

interface HolderOptions {
  /** False: the parent never asks how it ended, so it stays in the table of processes. */
  readonly reaped?: boolean;
}

interface Holder {
  /** Settled when it is dead. */
  kill(): Promise<void>;
  end(): Promise<void>;
}

/** A process that holds something by the time this is settled. */
async function startHolder(
  folder: string,
  what: 'lease' | 'lock',
  { reaped = true }: HolderOptions = {},
): Promise<Holder> {
  const script = fileURLToPath(new URL('./folder-holder.ts', import.meta.url));
  const program = [process.execPath, script, folder, what];
  const [command = '', ...args] = reaped ? program : ['sh', '-c', '"$0" "$@" & exec sleep 60', ...program];
  const parent = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(parent, 'exit');
  const [line] = await once(parent.stdout, 'data');
  const pid = Number.parseInt(String(line), 10);
  const end = async () => {
    if (!reaped) process.kill(pid, 'SIGKILL');
    parent.kill('SIGKILL');
    await exited;
  };
  return {
    end,
    kill: async () => {
      if (reaped) return end();
      process.kill(pid, 'SIGKILL');
      await expect.poll(() => readFile(`/proc/${pid}/stat`, 'utf8')).toContain(') Z ');
    },
  };
}

describe('the lock of a folder', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await temporaryFolder();
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('is broken open by one of those that wait, when it was abandoned', async () => {
    const path = join(folder, 'abandoned', '.lock');
    await mkdir(join(folder, 'abandoned'));
    await writeFile(path, 'a process that is no more');
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        new FolderLock(path, 50).run(() => {
          expect(existsSync(path)).toBe(true);
          order.push(index);
        }, undefined),
      ),
    );
    expect(order.toSorted()).toEqual([...order.keys()]);
    expect(await readdir(join(folder, 'abandoned'))).toEqual([]);
  });

  it.skipIf(process.platform === 'win32')(
    'is not left behind by whoever finds no room to enter',
    async () => {
      const path = join(folder, 'full.lock');
      const program = `
      import { FolderLock } from ${JSON.stringify(import.meta.resolve('../../../lib/storage/folder-lock.ts'))};
      await new FolderLock(${JSON.stringify(path)}).run(() => undefined).catch(({ code }) => console.log(code));`;
      // As on a disk that is full, a file can be made and nothing be written.
      const script = 'ulimit -f 0; exec "$0" "$@"';
      const args = ['-c', script, process.execPath, '--input-type=module', '--eval', program];
      expect((await promisify(execFile)('bash', args)).stdout).toBe('EFBIG\n');
      expect(existsSync(path)).toBe(false);
    },
  );

  it('that cannot be read is abandoned like any other', async () => {
    const path = join(folder, 'unreadable.lock');
    // A folder cannot be read as a file by anybody, root included; nor be removed as one.
    await mkdir(path);
    await expect(new FolderLock(path, 50).run(() => undefined, undefined)).rejects.toThrow('unreadable.lock');
  });

  it('is given back by what fails inside', async () => {
    const path = join(folder, 'failing.lock');
    const lock = new FolderLock(path);
    const failing = lock.run(() => {
      throw new Error('inside');
    }, undefined);
    await expect(failing).rejects.toThrow('inside');
    expect(existsSync(path)).toBe(false);
  });
});

describe('the name of a document in a folder', () => {
  const segment = fc
    .string({ unit: 'grapheme', minLength: 1, maxLength: 300 })
    .filter((it) => it !== '.' && it !== '..' && !it.includes('/'));
  const key = fc.array(segment, { minLength: 1, maxLength: 4 }).map((segments) => segments.join('/'));

  it('leads back to its key', () => {
    fc.assert(fc.property(key, (it) => decodeNames(encodeKey(it).split(/[\\/]/)) === it));
  });

  it('is safe on every file system', () => {
    fc.assert(
      fc.property(key, (it) => {
        for (const name of encodeKey(it).split(/[\\/]/)) {
          expect(name).toMatch(/^[a-z0-9._%-]{1,180}[+~]?$/);
          expect(name).not.toMatch(/^\.{1,2}$|\.$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/);
        }
      }),
    );
  });

  it('that came from elsewhere is no document', async () => {
    expect(decodeNames(['100%'])).toBeUndefined();
  });
});
