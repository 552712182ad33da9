/** The command line, from its arguments to its exit status, against registries that really answer. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createRegistry, type Registry } from '../../lib/registry/registry.ts';
import { openFolderStores } from '../../lib/storage/folder.ts';
import { RunBook } from '../../lib/sync/runs/book.ts';
import { startAcr } from '../local/acr.ts';
import {
  attestationOf,
  type BlobContent,
  buildIndex,
  buildManifest,
  buildMultiPlatform,
  type Content,
  mediaTypes,
  put,
  randomBlob,
} from '../local/content.ts';
import { type DockerRegistry, hasProgram, startDockerRegistry } from '../local/docker-registry.ts';
import { startIdentity } from '../local/identity.ts';
import { mainFile, type Running, Workplace } from '../local/program.ts';
import { type LocalRegistry, type RegistryOptions, startRegistry } from '../local/registry.ts';
import { digestOf, type StoredBlob } from '../local/store.ts';

const run = promisify(execFile);

const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64' };

const MiB = 1 << 20;

let workplace: Workplace;
const open: LocalRegistry[] = [];

beforeEach(async () => {
  workplace = await Workplace.open();
});

afterEach(async () => {
  await Promise.all([workplace.close(), ...open.splice(0).map((registry) => registry.close())]);
});

async function standIn(options: RegistryOptions = {}): Promise<LocalRegistry> {
  const registry = await startRegistry(options);
  open.push(registry);
  return registry;
}

/** JSON is YAML. */
function writeRules(rule: object, more: object = {}): Promise<void> {
  return workplace.write('sync.yaml', JSON.stringify({ version: 1, ...more, rules: [rule] }));
}

function outcomes({
  tags,
}: {
  tags: readonly { source: string; outcome: string }[];
}): Record<string, string> {
  return Object.fromEntries(
    tags.map(({ source, outcome }) => [source.slice(source.lastIndexOf(':') + 1), outcome]),
  );
}

// Skipped, by its name in the output, where `docker-registry` is not on the PATH.
describe.skipIf(!hasProgram('docker-registry'))(
  'between two docker-registry (needs docker-registry on the PATH)',
  () => {
    let source: DockerRegistry;
    let target: DockerRegistry;

    beforeAll(async () => {
      [source, target] = await Promise.all([startDockerRegistry(), startDockerRegistry()]);
    });

    afterAll(async () => {
      await Promise.all([source.close(), target.close()]);
    });

    const dockerChildren = [amd64, arm64].map((platform) => ({
      manifest: buildManifest({
        seed: `docker ${platform.architecture}`,
        docker: true,
        pretty: true,
        platform,
      }),
      platform,
    }));
    const contents: Record<string, Content> = {
      oci: buildMultiPlatform('oci', [amd64, arm64], [50_000, 1000]),
      docker: buildIndex(dockerChildren, { docker: true, pretty: true }),
      single: buildManifest({ seed: 'single', layers: [2_000_000, 10] }),
      'docker-single': buildManifest({ seed: 'docker single', docker: true, pretty: true }),
    };

    async function push(repository: string, tags: Record<string, Content>): Promise<void> {
      const registry = registryAt(source.url);
      try {
        for (const [tag, content] of Object.entries(tags)) await pushTree(registry, repository, content, tag);
      } finally {
        await registry.close();
      }
    }

    it('copies every tag and every child byte for byte, in OCI and in Docker format', async () => {
      await push('bytes/a', contents);
      const report = await workplace.report(['sync', `${source.host}/bytes/a`, `${target.host}/mirror/a`]);
      expect(report.exitCode).toBe(0);
      expect(report.totals).toMatchObject({ tags: 4, copied: 4, failed: 0 });
      for (const [tag, content] of Object.entries(contents)) {
        for (const reference of [
          `:${tag}`,
          ...content.children.map((child) => `@${child.descriptor.digest}`),
        ]) {
          const [there, here] = await Promise.all([
            rawManifest(`${source.host}/bytes/a`, reference),
            rawManifest(`${target.host}/mirror/a`, reference),
          ]);
          expect(here.equals(there), reference).toBe(true);
        }
        expect((await rawManifest(`${target.host}/mirror/a`, `:${tag}`)).equals(content.bytes), tag).toBe(
          true,
        );
      }
    });

    it('moves nothing in a second run', async () => {
      await push('idle/a', contents);
      const names = [`${source.host}/idle/a`, `${target.host}/idle/a`];
      expect((await workplace.report(['sync', ...names])).totals.copied).toBe(4);
      const second = await workplace.report(['sync', ...names]);
      expect(second.exitCode).toBe(0);
      expect(second.totals).toMatchObject({
        tags: 4,
        unchanged: 4,
        copied: 0,
        bytesCopied: 0,
        blobsCopied: 0,
      });
      const verified = await workplace.report(['verify', ...names]);
      expect(verified.exitCode).toBe(0);
      expect(verified.totals).toMatchObject({ tags: 4, same: 4 });
    });

    it('gets the rest of a blob after kill -9 from the chunk where the upload stood', async () => {
      const stalling = await standIn();
      const { promise: resumed, resolve: resume } = Promise.withResolvers<void>();
      const blob = randomBlob('stalled', 8 * MiB);
      const content = buildManifest({ seed: 'stalled', layers: [stalledAfter(4.5 * MiB, blob, resumed)] });
      put(stalling, 'a/b', '1', content);
      await writeRules(
        { source: `${stalling.host}/a/b`, target: `${target.host}/killed/a` },
        { registries: { [target.host]: { chunkSize: '1MiB' } } },
      );
      const running = workplace.start(['sync']);
      const fourChunks = new RegExp(`"offset":(${4 * MiB}),`);
      const saved = await vi.waitFor(
        async () => fourChunks.exec(await workplace.texts())?.[1] ?? expect.fail('nothing is saved yet'),
        { timeout: 30_000 },
      );
      running.process.kill('SIGKILL');
      await running.ended;
      resume();

      stalling.requests.length = 0;
      const report = await workplace.report(['sync']);
      expect(report.exitCode).toBe(0);
      const ranges = stalling.requests
        .filter(({ method, url }) => method === 'GET' && url.endsWith(blob.descriptor.digest))
        .map(({ headers }) => headers.range);
      expect(ranges).toEqual([expect.stringMatching(`^bytes=${saved}-`)]);
      const stored = await fetch(`${target.url}/v2/killed/a/blobs/${blob.descriptor.digest}`);
      expect(digestOf(new Uint8Array(await stored.arrayBuffer()))).toBe(blob.descriptor.digest);
    });

    it.skipIf(!hasProgram('skopeo'))(
      'leaves what skopeo can pull out again (needs skopeo on the PATH)',
      async () => {
        await push('pull/a', contents);
        const sync = await workplace.run(['sync', `${source.host}/pull/a`, `${target.host}/pull/a`]);
        expect(sync.exitCode).toBe(0);
        const folder = await mkdtemp(join(tmpdir(), 'hubferry-pulled-'));
        try {
          for (const tag of Object.keys(contents)) {
            const from = `docker://${target.host}/pull/a:${tag}`;
            await skopeo(
              'copy',
              '--all',
              '--preserve-digests',
              '--src-tls-verify=false',
              from,
              `dir:${join(folder, tag)}`,
            );
            const pulled = await readFile(join(folder, tag, 'manifest.json'));
            expect(pulled.equals(contents[tag]?.bytes ?? Buffer.of()), tag).toBe(true);
          }
        } finally {
          await rm(folder, { recursive: true });
        }
      },
    );
  },
);

const writes = new Set(['POST', 'PATCH', 'PUT', 'DELETE']);

function writesOf({ requests }: LocalRegistry): string[] {
  return requests.filter(({ method }) => writes.has(method)).map(({ method, url }) => `${method} ${url}`);
}

describe('a sync', () => {
  let source: LocalRegistry;
  let target: LocalRegistry;

  beforeEach(async () => {
    source = await standIn();
    target = await standIn();
  });

  it('fails for a tag whose blob the source lacks, keeps its old target and copies the others', async () => {
    const before = buildManifest({ seed: 'before' });
    const after = buildManifest({ seed: 'after' });
    put(source, 'a/b', 'good', buildManifest({ seed: 'good' }));
    put(source, 'a/b', 'broken', after);
    put(target, 'a/b', 'broken', before);
    const lost = after.blobs[1]?.descriptor.digest;
    source.repository('a/b').removeBlob(lost ?? 'sha256:');
    const report = await workplace.report(['sync', `${source.host}/a/b`, `${target.host}/a/b`]);
    expect(report.exitCode).toBe(1);
    expect(outcomes(report)).toEqual({ good: 'copied', broken: 'failed' });
    const error = report.tags.find(({ outcome }) => outcome === 'failed')?.error;
    expect(error?.code).toBe('ERR_BLOB_MISSING');
    expect(error?.message).toContain(lost);
    expect(target.repository('a/b').digestOf('broken')).toBe(before.descriptor.digest);
  });

  it('fails for a tag that the target refuses, keeps its old target and copies the others', async () => {
    const before = buildManifest({ seed: 'before' });
    put(source, 'a/b', 'good', buildManifest({ seed: 'good' }));
    put(source, 'a/b', 'refused', buildManifest({ seed: 'after' }));
    put(target, 'a/b', 'refused', before);
    const refusal = { errors: [{ code: 'MANIFEST_INVALID', message: 'not to the taste of this registry' }] };
    target.intercept = ({ method, url }) =>
      method === 'PUT' && url.endsWith('/manifests/refused')
        ? { kind: 'answer', status: 400, body: JSON.stringify(refusal) }
        : undefined;
    const report = await workplace.report(['sync', `${source.host}/a/b`, `${target.host}/a/b`]);
    expect(report.exitCode).toBe(1);
    expect(outcomes(report)).toEqual({ good: 'copied', refused: 'failed' });
    const error = report.tags.find(({ outcome }) => outcome === 'failed')?.error;
    expect(error?.message).toContain('MANIFEST_INVALID: not to the taste of this registry');
    expect(target.repository('a/b').digestOf('refused')).toBe(before.descriptor.digest);
  });

  it.each([
    [0, 'is refused', { kind: 'answer', status: 500 }],
    [2, 'is refused', { kind: 'answer', status: 500 }],
    [0, 'breaks off', { kind: 'cut', after: 0 }],
    [2, 'breaks off', { kind: 'cut', after: 0 }],
  ] as const)('asks %i times more for a blob that %s', async (retries, _what, intervention) => {
    const content = buildManifest();
    put(source, 'a/b', '1', content);
    const isBlob = ({ url }: { url: string }) => url.includes(content.blobs[1]?.descriptor.digest ?? '-');
    source.intercept = (request) => (isBlob(request) ? intervention : undefined);
    const args = ['sync', `${source.host}/a/b:1`, `${target.host}/a/b:1`, '--retries', `${retries}`];
    expect(outcomes(await workplace.report(args))).toEqual({ 1: 'failed' });
    expect(source.requests.filter(isBlob)).toHaveLength(retries + 1);
  });

  it('tells of each line what was sent for it, and once in all for what lines share', async () => {
    const shared = randomBlob('shared', 10_000);
    const tags = ['1', '2', '3', '4'];
    const contents = tags.map((seed) => buildManifest({ seed, layers: [5000, shared] }));
    for (const [index, content] of contents.entries()) put(source, 'a/b', tags[index], content);
    const report = await workplace.report(['sync', `${source.host}/a/b`, `${target.host}/a/b`]);
    const own = contents.map(({ bytes, blobs }) => 5000 + bytes.length + (blobs[0]?.descriptor.size ?? 0));
    const sent = report.tags.map(({ bytes = 0 }) => bytes % 10_000);
    expect(sent.sort()).toEqual(own.sort());
    const all = report.tags.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
    expect(all).toBe(report.totals.bytesCopied);
    expect(all).toBe(own.reduce((sum, bytes) => sum + bytes, 10_000));
  });

  it('tells of each tag of one digest the manifest that was sent for it', async () => {
    const content = buildManifest();
    const tags = Array.from({ length: 12 }, (_, index) => `${index}`);
    for (const tag of tags) put(source, 'a/b', tag, content);
    const report = await workplace.report(['sync', `${source.host}/a/b`, `${target.host}/a/b`]);
    const below = content.blobs.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
    const told = report.tags.map(({ bytes = 0 }) => bytes).sort((a, b) => a - b);
    expect(told).toEqual([...Array(11).fill(content.bytes.length), content.bytes.length + below]);
  });

  it('copies one tag under another name, and several from left to right', async () => {
    const [one, two] = [buildManifest({ seed: 'one' }), buildManifest({ seed: 'two' })];
    put(source, 'a/b', '1', one);
    put(source, 'a/b', '2', two);
    put(source, 'a/b', '3', buildManifest({ seed: 'three' }));
    const ended = await workplace.run(['sync', `${source.host}/a/b:1,2`, `${target.host}/a/b:first,second`]);
    expect(ended.exitCode).toBe(0);
    expect(target.repository('a/b').tagNames()).toEqual(['first', 'second']);
    expect(target.repository('a/b').digestOf('first')).toBe(one.descriptor.digest);
    expect(target.repository('a/b').digestOf('second')).toBe(two.descriptor.digest);
  });

  it('gives a tag another name in its own repository', async () => {
    const one = buildManifest({ seed: 'one' });
    put(source, 'a/b', '1', one);
    const report = await workplace.report(['sync', `${source.host}/a/b:1`, `${source.host}/a/b:stable`]);
    expect(report.totals).toMatchObject({ tags: 1, copied: 1, blobsCopied: 0 });
    expect(source.repository('a/b').digestOf('stable')).toBe(one.descriptor.digest);
  });

  it('mounts what it copies within one registry', async () => {
    const one = buildManifest({ seed: 'one', layers: [5000] });
    put(source, 'a/b', '1', one);
    const report = await workplace.report(['sync', `${source.host}/a/b:1`, `${source.host}/x/y:1`]);
    expect(report.totals).toMatchObject({ copied: 1, blobsCopied: 0, blobsMounted: 2 });
  });

  it('shows in status beside runs of a function app that are still open', async () => {
    put(source, 'a/b', '1', buildManifest());
    await workplace.run(['sync', `${source.host}/a/b:1`, `${target.host}/a/b:1`]);
    const book = new RunBook(openFolderStores(join(workplace.folder, '.hubferry')).runs);
    const opened = { id: 'plan', rule: 'app', source: 'docker.io/a/b', target: 'x.azurecr.io/b' };
    await book.open({
      run: 'open-run',
      trigger: 'schedule',
      startedAt: new Date(),
      opener: 'start-plan',
      start: () => ({ opened: [opened], sends: [] }),
    });
    const { stdout } = await workplace.run(['status']);
    expect(stdout.split('\n').slice(1, 3)).toEqual([
      expect.stringMatching(/^open-run .* running/),
      expect.stringMatching(/-cli-.* 1 copied/),
    ]);
    expect((await workplace.run(['status', 'open-run'])).exitCode).toBe(0);
  });

  it('tells what it did, also where its report cannot be kept', async () => {
    put(source, 'a/b', '1', buildManifest());
    await mkdir(join(workplace.folder, 'state'));
    await workplace.write('state/runs', 'no folder');
    const args = ['sync', `${source.host}/a/b:1`, `${target.host}/a/b:1`, '--state', 'state'];
    const report = await workplace.report(args);
    expect(report.totals).toMatchObject({ tags: 1, copied: 1 });
    expect(report.stderr).toContain('run not saved');
  });

  it.runIf(process.platform === 'linux')('fails where its output cannot be written', async () => {
    const command = '"$0" "$1" sync --json "$2" "$3" >/dev/full';
    const names = [`${source.host}/a/b:1`, `${target.host}/a/b:1`];
    put(source, 'a/b', '1', buildManifest());
    const error = await run('sh', ['-c', command, process.execPath, mainFile, ...names], {
      cwd: workplace.folder,
    }).catch((thrown: { code: number; stderr: string }) => thrown);
    expect(error).toMatchObject({ code: 1, stderr: expect.stringContaining('the output was not written') });
  });

  it('has written a long answer into a pipe when it ends', async () => {
    const images = Object.fromEntries(
      Array.from({ length: 10_000 }, (_, nth) => [`docker.io/a/b${nth}`, `registry.example/a/b${nth}`]),
    );
    await workplace.write('images.json', JSON.stringify(images));
    const command =
      '"$0" "$1" convert --images images.json | cat >piped; "$0" "$1" convert --images images.json >whole';
    await run('sh', ['-c', command, process.execPath, mainFile], { cwd: workplace.folder });
    const [piped, whole] = await Promise.all(
      ['piped', 'whole'].map((name) => readFile(join(workplace.folder, name), 'utf8')),
    );
    expect(whole).toMatch(/b9999\b/);
    expect(piped === whole).toBe(true);
  });

  // Node's own way to make folders would never end there.
  it.runIf(process.platform === 'linux')('ends where no state can be made', async () => {
    put(source, 'a/b', '1', buildManifest());
    const args = ['sync', `${source.host}/a/b:1`, `${target.host}/a/b:1`, '--state', '/proc/nowhere'];
    const { exitCode, stderr } = await workplace.run(args);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('ERR_STORAGE');
  });

  it('copies what a digest names, to the tag that the target names', async () => {
    const pinned = buildMultiPlatform('pinned', [amd64, arm64]);
    put(source, 'a/b', undefined, pinned);
    const { digest } = pinned.descriptor;
    const ended = await workplace.run(['sync', `${source.host}/a/b@${digest}`, `${target.host}/a/b:pinned`]);
    expect(ended.exitCode).toBe(0);
    expect(target.repository('a/b').digestOf('pinned')).toBe(digest);
    for (const child of pinned.children) {
      expect(target.repository('a/b').manifests.has(child.descriptor.digest)).toBe(true);
    }
  });

  it('goes to two targets, and the failure of one leaves the other', async () => {
    const content = buildManifest({ seed: 'both' });
    put(source, 'a/b', '1', content);
    const gone = await unreachableHost();
    await writeRules({ source: `${source.host}/a/b`, target: [`${target.host}/x/b`, `${gone}/x/b`] });
    const half = await workplace.report(['sync', '--retries', '0']);
    expect(half.exitCode).toBe(1);
    expect(half.totals).toMatchObject({ tags: 2, copied: 1, failed: 1 });
    expect(target.repository('x/b').digestOf('1')).toBe(content.descriptor.digest);

    await writeRules({ source: `${source.host}/a/b`, target: [`${target.host}/x/b`, `${target.host}/y/b`] });
    const whole = await workplace.report(['sync']);
    expect(whole.exitCode).toBe(0);
    expect(whole.totals).toMatchObject({ tags: 2, copied: 1, unchanged: 1 });
    expect(target.repository('y/b').digestOf('1')).toBe(content.descriptor.digest);
  });

  it('moves no tag that was mirrored before where the rule does not overwrite', async () => {
    const [old, moved] = [buildManifest({ seed: 'old' }), buildManifest({ seed: 'moved' })];
    put(source, 'a/b', '1', old);
    await writeRules({ source: `${source.host}/a/b`, target: `${target.host}/a/b`, overwrite: false });
    expect((await workplace.report(['sync'])).totals.copied).toBe(1);
    put(source, 'a/b', '1', moved);
    put(source, 'a/b', '2', moved);
    const report = await workplace.report(['sync']);
    expect(report.exitCode).toBe(0);
    expect(outcomes(report)).toEqual({ 1: 'skipped', 2: 'copied' });
    expect(target.repository('a/b').digestOf('1')).toBe(old.descriptor.digest);
  });

  it('deletes what the rule copied and the source no longer has, and nothing else', async () => {
    const content = buildManifest({ seed: 'pruned' });
    const names = ['1', '2', '3', '4', '5', '6'];
    for (const name of names) put(source, 'a/b', name, content);
    put(target, 'a/b', 'own', buildManifest({ seed: 'own' }));
    await writeRules({ source: `${source.host}/a/b`, target: `${target.host}/a/b`, prune: true });
    expect((await workplace.report(['sync'])).totals.copied).toBe(6);
    source.repository('a/b').removeTag('6');
    const report = await workplace.report(['sync']);
    expect(report.exitCode).toBe(0);
    expect(report.totals).toMatchObject({ deleted: 1, unchanged: 5 });
    expect(target.repository('a/b').tagNames()).toEqual(['1', '2', '3', '4', '5', 'own']);
  });

  it('deletes more than a share of the tags only when it is told to', async () => {
    const content = buildManifest({ seed: 'mass' });
    for (const name of ['1', '2', '3', '4']) put(source, 'a/b', name, content);
    await writeRules({ source: `${source.host}/a/b`, target: `${target.host}/a/b`, prune: true });
    expect((await workplace.report(['sync'])).totals.copied).toBe(4);
    for (const name of ['2', '3', '4']) source.repository('a/b').removeTag(name);
    const refused = await workplace.report(['sync']);
    expect(refused.exitCode).toBe(1);
    expect(refused.totals).toMatchObject({ deleted: 0, failed: 1 });
    expect(target.repository('a/b').tagNames()).toEqual(['1', '2', '3', '4']);
    const told = await workplace.report(['sync', '--allow-mass-delete']);
    expect(told.exitCode).toBe(0);
    expect(told.totals.deleted).toBe(3);
    expect(target.repository('a/b').tagNames()).toEqual(['1']);
  });

  it('keeps the platforms that the rule names, and is idle the second time', async () => {
    const [kept, dropped] = [arm64, amd64].map((platform) => ({
      manifest: buildManifest({ seed: `of ${platform.architecture}`, platform }),
      platform,
    }));
    if (kept === undefined || dropped === undefined) throw new Error('two platforms make two entries');
    const index = buildIndex([kept, dropped, attestationOf(kept.manifest), attestationOf(dropped.manifest)]);
    put(source, 'a/b', '1', index);
    await writeRules({
      source: `${source.host}/a/b`,
      target: `${target.host}/a/b`,
      platforms: ['linux/arm64'],
    });
    const first = await workplace.report(['sync']);
    expect(first.exitCode).toBe(0);
    const stored = target.repository('a/b').manifest('1');
    expect(first.tags).toMatchObject([{ digest: index.descriptor.digest, targetDigest: stored?.digest }]);
    const { manifests } = JSON.parse(Buffer.from(stored?.bytes ?? []).toString());
    expect(manifests).toContainEqual({ ...kept.manifest.descriptor, platform: arm64 });
    expect(JSON.stringify(manifests)).not.toContain(dropped.manifest.descriptor.digest);
    expect(target.repository('a/b').manifests.has(dropped.manifest.descriptor.digest)).toBe(false);

    target.requests.length = 0;
    const second = await workplace.report(['sync']);
    expect(second.exitCode).toBe(0);
    expect(second.totals).toMatchObject({ unchanged: 1, copied: 0, bytesCopied: 0 });
    expect(writesOf(target)).toEqual([]);
    expect((await workplace.report(['verify'])).totals).toMatchObject({ tags: 1, same: 1 });
  });
});

describe('a mistake that can be known without a request', () => {
  const cases = [
    { what: 'an unknown key', line: 5, path: 'rules[0].taggs', code: 'ERR_CONFIG', rule: 'taggs: {}' },
    { what: 'a wrong type', line: 5, path: 'rules[0].prune', code: 'ERR_CONFIG', rule: 'prune: 3' },
    {
      what: 'an unset variable',
      line: 8,
      path: 'registries["127.0.0.1"].password',
      code: 'ERR_VARIABLE_UNSET',
      rule: 'prune: false',
      password: '$NOT_SET_ANYWHERE',
    },
  ];

  it('in the Docker configuration ends with 2, unless each registry has a login of its own', async () => {
    const target = await standIn();
    await workplace.write('config.json', '{bad');
    await writeRules({ source: `${target.host}/a/b`, target: `${target.host}/c/d` });
    const { exitCode, stdout } = await workplace.run(['sync', '--json']);
    expect(exitCode).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({
      error: { code: 'ERR_CONFIG', file: expect.stringContaining('config.json') },
    });
    expect(target.requests).toEqual([]);
    const login = { registries: { [target.host]: { username: 'me', password: 'right' } } };
    await writeRules({ source: `${target.host}/a/b`, target: `${target.host}/c/d` }, login);
    expect((await workplace.run(['plan'])).exitCode).toBe(1);
    expect(target.requests).not.toEqual([]);
  });

  it.each(cases)(
    'ends with 2 and names file, line and path: $what',
    async ({ line, path, code, rule, password }) => {
      const [source, target] = [await standIn(), await standIn()];
      await workplace.write(
        'sync.yaml',
        `version: 1
rules:
  - source: ${source.host}/a/b
    target: ${target.host}/a/b
    ${rule}
registries:
  127.0.0.1: { username: me,
    password: "${password ?? 'known'}" }
`,
      );
      const { exitCode, stdout, stderr } = await workplace.run(['sync', '--json']);
      expect(exitCode).toBe(2);
      const { error } = JSON.parse(stdout);
      expect(error).toMatchObject({ code, line, path });
      expect(error.file).toMatch(/sync\.yaml$/);
      expect(stderr).not.toMatch(stackLine);
      expect([...source.requests, ...target.requests]).toEqual([]);
    },
  );

  it.each([['--json'], ['--json=yes']])(
    'ends with 2 for a command line that makes no sense, in one document: %s',
    async (json) => {
      const { exitCode, stdout } = await workplace.run(['sync', 'only-one', json]);
      expect(exitCode).toBe(2);
      expect(Object.keys(JSON.parse(stdout))).toEqual(['error']);
      expect(JSON.parse(stdout).error.code).toBe('ERR_USAGE');
    },
  );

  it.each([
    ['AZURE_STORAGE_CONNECTION_STRING', 'AccountKey=secret-key;nonsense'],
    ['HTTPS_PROXY', 'proxy-with-secret-key:3128'],
  ])('ends with 2 for a variable that makes no sense, and names it: %s', async (name, value) => {
    const [source, target] = [await standIn(), await standIn()];
    const args = ['sync', `${source.host}/a/b:1`, `${target.host}/a/b:1`, '--json'];
    const { exitCode, stdout, stderr } = await workplace.run(args, { [name]: value });
    expect(exitCode).toBe(2);
    expect(JSON.parse(stdout).error).toMatchObject({ code: 'ERR_SETTING', path: name });
    expect(stdout + stderr).not.toContain('secret-key');
    expect([...source.requests, ...target.requests]).toEqual([]);
  });
});

const stackLine = /^\s+at .+:\d+/m;

describe('a registry that cannot be used', () => {
  it('that nobody answers for is one failed line without a tag, whichever side it is on', async () => {
    const source = await standIn();
    put(source, 'a/b', '1', buildManifest());
    const gone = await unreachableHost();
    for (const [from, to] of [
      [`${gone}/a/b`, `${source.host}/x/b`],
      [`${source.host}/a/b`, `${gone}/a/b`],
    ] as const) {
      const report = await workplace.report(['sync', from, to, '--retries', '0']);
      expect(report.exitCode).toBe(1);
      expect(report.tags).toHaveLength(1);
      expect(report.tags[0]).toMatchObject({
        source: from,
        target: to,
        outcome: 'failed',
        error: { code: 'ERR_CONNECTION' },
      });
      expect(report.stderr).not.toMatch(stackLine);
      // Whoever watches the log sees it too.
      expect(report.stderr).toMatch(/^\S+ ERROR failed run=\S+ operation=sync .*code=ERR_CONNECTION/m);
    }
  });

  it('that refuses the password is one failed line, and the password shows nowhere', async () => {
    const users = { me: 'right' };
    const guarded = [
      await standIn({ auth: { kind: 'basic', username: 'me', password: 'right' } }),
      await standIn({ auth: { kind: 'token', users } }),
    ];
    const target = await standIn();
    const wrong = 'wr0ng-and-secret';
    for (const source of guarded) {
      put(source, 'a/b', '1', buildManifest());
      await writeRules(
        { source: `${source.host}/a/b`, target: `${target.host}/a/b` },
        { registries: { [source.host]: { username: 'me', password: '$SECRET_PASSWORD' } } },
      );
      const args = ['sync', '--json', '--log-level', 'debug', '--log', 'log.txt'];
      const { exitCode, stdout, stderr } = await workplace.run(args, { SECRET_PASSWORD: wrong });
      expect(exitCode).toBe(1);
      const { tags } = JSON.parse(stdout);
      expect(tags).toMatchObject([
        { source: `${source.host}/a/b`, outcome: 'failed', error: { code: 'ERR_UNAUTHORIZED' } },
      ]);
      expect(tags).toHaveLength(1);
      const written = [stdout, stderr, await workplace.texts()].join('\n');
      expect(written).not.toContain(wrong);
      expect(written).not.toContain(Buffer.from(`me:${wrong}`).toString('base64'));
      expect(stdout).not.toMatch(stackLine);
    }
  });
});

describe('verify', () => {
  it('finds a moved tag, a missing blob and a missing child, and sync --force repairs them', async () => {
    const [source, target] = [await standIn(), await standIn()];
    const [moved, holed, orphaned] = [
      buildManifest({ seed: 'tag' }),
      buildManifest({ seed: 'blob' }),
      buildMultiPlatform('child', [amd64, arm64]),
    ];
    put(source, 'a/b', 'moved', moved);
    put(source, 'a/b', 'holed', holed);
    put(source, 'a/b', 'orphaned', orphaned);
    put(source, 'a/b', 'sound', buildManifest({ seed: 'sound' }));
    const names = [`${source.host}/a/b`, `${target.host}/a/b`];
    expect((await workplace.report(['sync', ...names])).totals.copied).toBe(4);
    expect((await workplace.report(['verify', ...names])).totals).toMatchObject({ tags: 4, same: 4 });

    const damaged = target.repository('a/b');
    damaged.setTag('moved', holed.descriptor.digest);
    const blob = holed.blobs[1]?.descriptor.digest ?? 'sha256:';
    const child = orphaned.children[1]?.descriptor.digest ?? 'sha256:';
    damaged.removeBlob(blob);
    damaged.removeManifest(child);

    const found = await workplace.report(['verify', ...names]);
    expect(found.exitCode).toBe(1);
    expect(outcomes(found)).toEqual({
      moved: 'moved',
      holed: 'incomplete',
      orphaned: 'incomplete',
      sound: 'same',
    });
    const missingOf = (tag: string) => found.tags.find(({ target: to }) => to.endsWith(`:${tag}`))?.missing;
    expect(missingOf('holed')).toEqual([blob]);
    expect(missingOf('orphaned')).toEqual([child]);

    const repaired = await workplace.report(['sync', '--force', ...names]);
    expect(repaired.exitCode).toBe(0);
    expect(damaged.digestOf('moved')).toBe(moved.descriptor.digest);
    expect(damaged.blobs.has(blob)).toBe(true);
    expect(damaged.manifests.has(child)).toBe(true);
    const after = await workplace.report(['verify', ...names]);
    expect(after.exitCode).toBe(0);
    expect(after.totals).toMatchObject({ tags: 4, same: 4 });
  });
});

describe('a large blob that is broken off', () => {
  const blob = randomBlob('large', 12 * MiB);
  const content = buildManifest({ seed: 'large', layers: [blob] });
  let source: LocalRegistry;
  let target: LocalRegistry;

  beforeEach(async () => {
    source = await standIn({ bytesPerSecond: 6 * MiB });
    target = await standIn();
    put(source, 'a/b', '1', content);
    await writeRules(
      { source: `${source.host}/a/b`, target: `${target.host}/a/b` },
      { registries: { [target.host]: { chunkSize: '1MiB' } } },
    );
  });

  /** Sends the signal as the fifth chunk arrives. */
  function signalInTheMiddle(signal: 'SIGKILL' | 'SIGINT'): Running {
    const running = workplace.start(['sync', '--json']);
    let chunks = 0;
    target.intercept = async ({ method }) => {
      if (method === 'PATCH') chunks += 1;
      if (method !== 'PATCH' || chunks !== 5) return undefined;
      running.process.kill(signal);
      if (signal === 'SIGINT') return undefined;
      await running.ended;
      return { kind: 'reset' };
    };
    return running;
  }

  /** Bytes of the large blob's uploads in the target's log. */
  function bytesReceived(): number {
    return target.requests
      .filter(
        ({ method, url }) => (method === 'PATCH' || method === 'PUT') && url.includes('/blobs/uploads/'),
      )
      .reduce((sum, { received }) => sum + received, 0);
  }

  async function goOn(): Promise<void> {
    expect(target.repository('a/b').digestOf('1')).toBeUndefined();
    target.intercept = undefined;
    target.requests.length = 0;
    source.requests.length = 0;
    source.behaviour.bytesPerSecond = undefined;
    const report = await workplace.report(['sync']);
    expect(report.exitCode).toBe(0);
    expect(target.repository('a/b').digestOf('1')).toBe(content.descriptor.digest);
    expect(await sha256Of(target.repository('a/b').blobs.get(blob.descriptor.digest))).toBe(
      blob.descriptor.digest,
    );
    const config = content.blobs[0]?.size ?? 0;
    expect(bytesReceived()).toBeLessThanOrEqual(8 * MiB + config);
    expect(bytesReceived()).toBeGreaterThan(0);
    const read = source.requests.find(
      ({ method, url }) => method === 'GET' && url.endsWith(blob.descriptor.digest),
    );
    expect(read?.headers.range).toMatch(/^bytes=[1-9]\d*-/);
  }

  it('by kill -9 goes on with the next sync where it stood, and ends with the same digest', async () => {
    const killed = await signalInTheMiddle('SIGKILL').ended;
    expect(killed.exitCode).toBeNull();
    await goOn();
  });

  it('by Ctrl-C ends with 130 and one document, and goes on from the checkpoint', async () => {
    const { exitCode, stdout, stderr } = await signalInTheMiddle('SIGINT').ended;
    expect(exitCode).toBe(130);
    expect(JSON.parse(stdout)).toMatchObject({ run: { interrupted: true } });
    expect(stderr).not.toMatch(stackLine);
    await goOn();
  });

  it('by SIGTERM ends with 130 while the Azure identity leaves it without an answer', async () => {
    const [identity, acr] = await Promise.all([startIdentity(), startAcr()]);
    const registries = { [acr.host]: { kind: 'acr', endpoint: acr.url, ca: acr.caFile } };
    await writeRules({ source: `${source.host}/a/b`, target: `${acr.host}/a/b` }, { registries });
    const running = workplace.start(['sync', '--json'], identity.env);
    identity.intercept = () => {
      running.process.kill('SIGTERM');
      return new Promise(() => {});
    };
    const { exitCode, stdout } = await running.ended;
    expect(exitCode).toBe(130);
    expect(JSON.parse(stdout)).toMatchObject({ run: { interrupted: true } });
    await Promise.all([identity.close(), acr.close()]);
  });

  it('by Ctrl-C again and again ends at once, with 130 and one document', async () => {
    const running = workplace.start(['sync', '--json']);
    target.intercept = ({ method }) => {
      if (method !== 'PATCH') return undefined;
      const again = setInterval(() => running.process.kill('SIGINT'), 100);
      void running.ended.finally(() => clearInterval(again));
      return new Promise(() => {});
    };
    const { exitCode, stdout } = await running.ended;
    expect(exitCode).toBe(130);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'ERR_INTERRUPTED' } });
  });

  it('before it has begun, by a signal as soon as it runs, ends with 130 and one document', async () => {
    const preloaded = join(workplace.folder, 'signal.mjs');
    // As soon as it listens: most of it is loaded after that.
    const signal = `
      const look = () => (process.listenerCount('SIGTERM') > 0 ? process.kill(process.pid, 'SIGTERM') : setImmediate(look));
      look();`;
    await workplace.write('signal.mjs', signal);
    const env = { NODE_OPTIONS: `--import=${pathToFileURL(preloaded)}` };
    const { exitCode, stdout } = await workplace.run(['sync', '--json'], env);
    expect(exitCode).toBe(130);
    expect(JSON.parse(stdout)).toMatchObject({ run: { interrupted: true } });
  });

  it('by Ctrl-C does not wait for a target that hangs', async () => {
    const running = workplace.start(['sync', '--json']);
    target.intercept = ({ method }) => {
      if (method !== 'PATCH') return undefined;
      running.process.kill('SIGINT');
      return new Promise(() => {});
    };
    const { exitCode, stdout } = await running.ended;
    expect(exitCode).toBe(130);
    expect(JSON.parse(stdout)).toMatchObject({ run: { interrupted: true } });
  });
});

/** The blob from a source that sends so many bytes and then nothing, until it goes on. */
function stalledAfter(bytes: number, blob: BlobContent, goesOn: Promise<void>): BlobContent {
  return {
    ...blob,
    async *open(start, end) {
      yield* blob.open(start, Math.min(end, bytes));
      await goesOn;
      yield* blob.open(Math.max(start, bytes), end);
    },
  };
}

/** An address where nothing listens any more. */
async function unreachableHost(): Promise<string> {
  const registry = await startRegistry();
  await registry.close();
  return registry.host;
}

async function sha256Of(blob: StoredBlob | undefined): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of blob?.open(0, blob.size) ?? []) hash.update(piece);
  return `sha256:${hash.digest('hex')}`;
}

function registryAt(url: string): Registry {
  return createRegistry({
    settings: {
      host: new URL(url).host,
      kind: 'oci',
      endpoint: url,
      identity: false,
      audience: '',
      skipTlsVerify: false,
      allowHttpFallback: false,
    },
    retries: 3,
  });
}

async function pushTree(registry: Registry, name: string, content: Content, tag?: string): Promise<void> {
  const repository = registry.repository(name);
  for (const child of content.children) await pushTree(registry, name, child);
  for (const { descriptor, open: read } of content.blobs) {
    const pieces: Uint8Array[] = [];
    for await (const piece of read(0, descriptor.size)) pieces.push(Buffer.from(piece));
    await (await repository.startUpload()).commit(descriptor.digest, pieces);
  }
  const { descriptor, bytes } = content;
  await repository.pushManifest({ descriptor, bytes }, tag ?? descriptor.digest);
}

async function skopeo(...args: string[]): Promise<Buffer> {
  const { stdout } = await run('skopeo', ['--insecure-policy', ...args], { encoding: 'buffer' });
  return stdout;
}

/** The manifest as another program reads it. `reference` is `:tag` or `@digest`. */
async function rawManifest(repository: string, reference: string): Promise<Buffer> {
  if (hasProgram('skopeo')) {
    return skopeo('inspect', '--raw', '--tls-verify=false', `docker://${repository}${reference}`);
  }
  const [host = '', ...path] = repository.split('/');
  const accept = Object.values(mediaTypes).join(', ');
  const response = await fetch(`http://${host}/v2/${path.join('/')}/manifests/${reference.slice(1)}`, {
    headers: { accept },
  });
  expect(response.status).toBe(200);
  return Buffer.from(await response.arrayBuffer());
}
