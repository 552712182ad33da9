/** What builders really push: byte for byte the same at the target, and a container engine can pull it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { builders, ImageBuilder } from '../local/built-images.ts';
import { buildApp, type Cloud, startCloud } from '../local/cloud.ts';
import { type DockerRegistry, hasProgram, startDockerRegistry } from '../local/docker-registry.ts';
import { webhookBody } from '../local/dockerhub.ts';
import { Workplace } from '../local/program.ts';

const missing = ['docker-registry', ...builders].filter((program) => !hasProgram(program));

describe.skipIf(missing.length > 0)(
  'images by buildah and umoci (needs both, docker-registry, skopeo)',
  () => {
    let source: DockerRegistry;
    let builder: ImageBuilder;

    beforeAll(async () => {
      [source, builder] = await Promise.all([startDockerRegistry(), ImageBuilder.open()]);
      const repository = `${source.host}/built/app`;
      await builder.pushIndex(`${repository}:oci`, 'oci', { greeting: 'hello' });
      await builder.pushIndex(`${repository}:docker`, 'docker', { greeting: 'hello' });
      await builder.pushManifest(`${repository}:single`, { greeting: 'hello', other: 'layer' });
    }, 60_000);
    afterAll(() => Promise.all([source, builder].map((one) => one?.close())));

    const rawManifest = (name: string, creds?: string) => {
      const login = creds === undefined ? [] : ['--creds', creds];
      return builder.run('skopeo', 'inspect', '--raw', '--tls-verify=false', ...login, `docker://${name}`);
    };

    /** Reads a tag and every child of it from both sides. @returns how many children it has */
    async function expectSame(
      tag: string,
      mirror: string,
      greeting: string,
      creds?: string,
    ): Promise<number> {
      const original = `${source.host}/built/app`;
      const there = await rawManifest(`${original}:${tag}`);
      expect(await rawManifest(`${mirror}:${tag}`, creds), tag).toBe(there);
      const children: { digest: string }[] = JSON.parse(there).manifests ?? [];
      for (const { digest } of children) {
        const child = await rawManifest(`${original}@${digest}`);
        expect(await rawManifest(`${mirror}@${digest}`, creds), `${tag} ${digest}`).toBe(child);
      }
      const root = await builder.unpack(`${mirror}:${tag}`, creds);
      expect(await readFile(join(root, 'greeting'), 'utf8')).toBe(greeting);
      return children.length;
    }

    describe('by the command line into docker-registry', () => {
      let target: DockerRegistry;
      let workplace: Workplace;

      beforeAll(async () => {
        [target, workplace] = await Promise.all([startDockerRegistry(), Workplace.open()]);
      });
      afterAll(() => Promise.all([target, workplace].map((one) => one?.close())));

      it('are the same on both sides, tag by tag and child by child, and can be pulled', async () => {
        const names = [`${source.host}/built/app`, `${target.host}/mirror/app`] as const;
        const report = await workplace.report(['sync', ...names]);
        expect(report.stderr).not.toContain('failed');
        expect(report.totals).toMatchObject({ tags: 3, copied: 3 });
        expect(await expectSame('oci', names[1], 'hello')).toBe(2);
        expect(await expectSame('docker', names[1], 'hello')).toBe(2);
        expect(await expectSame('single', names[1], 'hello')).toBe(0);
        expect((await workplace.report(['verify', ...names])).totals).toMatchObject({ tags: 3, same: 3 });
      }, 60_000);
    });

    describe('by the function app into ACR', () => {
      const admin = { username: 'admin', password: 'admin-password' };
      const creds = `${admin.username}:${admin.password}`;
      let app: Awaited<ReturnType<typeof buildApp>>;
      let cloud: Cloud;

      beforeAll(async () => {
        app = await buildApp();
        // Under Docker Hub's name; its web API knows nothing of the repository, so that names are listed and asked for.
        const rules = `  docker.io/built: { endpoint: "${source.url}" }
rules: [{ name: built, source: docker.io/built/app, target: $ACR/mirror/app }]`;
        cloud = await startCloud({ appRoot: app.appRoot, rules, acr: { admin } });
      }, 60_000);
      afterAll(async () => {
        await cloud?.close();
        app?.remove();
      });

      const mirror = () => `${cloud.acr.host}/mirror/app`;
      const post = async (path: string, body: unknown) => {
        const headers = { 'x-functions-key': cloud.host.key() };
        const answer = await fetch(`${cloud.host.url}/api/${path}`, {
          method: 'POST',
          headers,
          body: JSON.stringify(body),
        });
        expect(answer.status).toBe(202);
        await cloud.host.idle();
      };

      it('come with the timer, with a webhook and by hand, the same as they were pushed', async () => {
        await cloud.host.invokeTimer('schedule');
        await cloud.host.idle();
        expect(await expectSame('oci', mirror(), 'hello', creds)).toBe(2);
        expect(await expectSame('docker', mirror(), 'hello', creds)).toBe(2);
        expect(await expectSame('single', mirror(), 'hello', creds)).toBe(0);

        await builder.pushIndex(`${source.host}/built/app:oci`, 'oci', { greeting: 'told by a webhook' });
        await post('webhook', webhookBody('built/app', 'oci'));
        expect(await expectSame('oci', mirror(), 'told by a webhook', creds)).toBe(2);

        await builder.pushManifest(`${source.host}/built/app:single`, { greeting: 'asked for' });
        await post('sync', { rules: ['built'], tags: ['single'] });
        expect(await expectSame('single', mirror(), 'asked for', creds)).toBe(0);
      }, 120_000);
    });
  },
);
