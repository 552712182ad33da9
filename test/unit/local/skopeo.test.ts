import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { startAcr } from '../../local/acr.ts';
import { attestationOf, buildIndex, buildManifest, buildMultiPlatform } from '../../local/content.ts';
import { startDockerHub } from '../../local/dockerhub.ts';
import { startRegistry } from '../../local/registry.ts';

const run = promisify(execFile);

function skopeoIsInstalled(): boolean {
  try {
    return execFileSync('skopeo', ['--version']).byteLength > 0;
  } catch {
    return false;
  }
}

const child = buildManifest({ seed: 'child', layers: [2000] });
const contents = {
  'docker manifest, indented': buildManifest({ docker: true, pretty: true, layers: [100, 12 << 20] }),
  'index of two platforms': buildMultiPlatform('x', [
    { os: 'linux', architecture: 'amd64' },
    { os: 'linux', architecture: 'arm64', variant: 'v8' },
  ]),
  'index with an attestation': buildIndex(
    [{ manifest: child, platform: { os: 'linux', architecture: 'amd64' } }, attestationOf(child)],
    { pretty: true },
  ),
};

test.runIf(skopeoIsInstalled()).for(Object.entries(contents))(
  'skopeo copies a %s from Docker Hub through a registry into ACR and out again',
  async ([, content]) => {
    await using stack = new AsyncDisposableStack();
    const hub = await startDockerHub();
    stack.defer(() => hub.close());
    const registry = await startRegistry({ auth: { kind: 'token', users: { user: 'secret' } } });
    stack.defer(() => registry.close());
    // skopeo sends a blob as one chunked body, which ACR's own limits would refuse for large ones.
    const acr = await startAcr({
      admin: { username: 'admin', password: 'secret' },
      contentLengthRequired: false,
    });
    stack.defer(() => acr.close());
    const folder = await mkdtemp(join(tmpdir(), 'hubferry-skopeo-'));
    stack.defer(() => rm(folder, { recursive: true }));
    await hub.push('library/app', '1', content);

    const copy = (...words: string[]) =>
      run('skopeo', ['copy', '--all', '--preserve-digests', '--src-tls-verify=false', ...words]);
    const middle = `docker://${registry.host}/app:1`;
    const target = `docker://${acr.host}/app:1`;
    const toMiddle = ['--dest-tls-verify=false', '--dest-creds', 'user:secret', middle];
    await copy(`docker://${new URL(hub.url).host}/library/app:1`, ...toMiddle);
    const fromMiddle = ['--src-creds', 'user:secret', middle];
    await copy('--dest-tls-verify=false', '--dest-creds', 'admin:secret', ...fromMiddle, target);
    await copy('--src-creds', 'admin:secret', target, `dir:${folder}`);

    expect(registry.repository('app').digestOf('1')).toBe(content.descriptor.digest);
    expect(acr.repository('app').manifest('1')?.bytes).toEqual(Buffer.from(content.bytes));
    expect(hub.pulls).toBe(1 + content.children.length);
  },
);
