/** What builders really push, between two real registries: byte for byte the same, and a container engine can pull it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { builders, ImageBuilder } from '../local/built-images.ts';
import { type DockerRegistry, hasProgram, startDockerRegistry } from '../local/docker-registry.ts';
import { Workplace } from '../local/program.ts';

const missing = ['docker-registry', ...builders].filter((program) => !hasProgram(program));

describe.skipIf(missing.length > 0)(
  'images by buildah and umoci (needs both, docker-registry, skopeo)',
  () => {
    let source: DockerRegistry;
    let target: DockerRegistry;
    let builder: ImageBuilder;
    let workplace: Workplace;

    beforeAll(async () => {
      [source, target, builder, workplace] = await Promise.all([
        startDockerRegistry(),
        startDockerRegistry(),
        ImageBuilder.open(),
        Workplace.open(),
      ]);
      const repository = `${source.host}/built/app`;
      await builder.pushIndex(`${repository}:oci`, 'oci', { greeting: 'hello' });
      await builder.pushIndex(`${repository}:docker`, 'docker', { greeting: 'hello' });
      await builder.pushManifest(`${repository}:single`, { greeting: 'hello', other: 'layer' });
    }, 60_000);

    afterAll(() => Promise.all([source, target, builder, workplace].map((one) => one.close())));

    const rawManifest = ({ host }: DockerRegistry, repository: string, reference: string) =>
      builder.run(
        'skopeo',
        'inspect',
        '--raw',
        '--tls-verify=false',
        `docker://${host}/${repository}${reference}`,
      );

    it('are the same on both sides, tag by tag and child by child, and can be pulled', async () => {
      const names = [`${source.host}/built/app`, `${target.host}/mirror/app`];
      const report = await workplace.report(['sync', ...names]);
      expect(report.stderr).not.toContain('failed');
      expect(report.totals).toMatchObject({ tags: 3, copied: 3 });
      const kinds: Record<string, number> = {};
      for (const tag of ['oci', 'docker', 'single']) {
        const there = await rawManifest(source, 'built/app', `:${tag}`);
        expect(await rawManifest(target, 'mirror/app', `:${tag}`), tag).toBe(there);
        const children: { digest: string }[] = JSON.parse(there).manifests ?? [];
        kinds[tag] = children.length;
        for (const { digest } of children) {
          const child = await rawManifest(source, 'built/app', `@${digest}`);
          expect(await rawManifest(target, 'mirror/app', `@${digest}`), `${tag} ${digest}`).toBe(child);
        }
        const root = await builder.unpack(`${target.host}/mirror/app:${tag}`);
        expect(await readFile(join(root, 'greeting'), 'utf8')).toBe('hello');
      }
      expect(kinds).toEqual({ oci: 2, docker: 2, single: 0 });
      expect((await workplace.report(['verify', ...names])).totals).toMatchObject({ tags: 3, same: 3 });
    }, 60_000);
  },
);
