/** Images as people build them: by `buildah` and `umoci`, pushed by `buildah` and `skopeo`. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

const architectures = ['amd64', 'arm64'];

/** The programs that it takes. */
export const builders = ['buildah', 'umoci', 'skopeo'];

/** A folder with a store of its own, so that nothing of the user's is read or changed. */
export class ImageBuilder {
  readonly #folder: string;
  /** What is built or pulled gets a name of its own. */
  #made = 0;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async open(): Promise<ImageBuilder> {
    const folder = await mkdtemp(join(tmpdir(), 'hubferry-builder-'));
    const store = { driver: 'vfs', runroot: join(folder, 'run'), graphroot: join(folder, 'graph') };
    const lines = Object.entries(store).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
    await writeFile(join(folder, 'storage.conf'), `[storage]\n${lines.join('\n')}\n`);
    return new ImageBuilder(folder);
  }

  close(): Promise<void> {
    return rm(this.#folder, { recursive: true });
  }

  /** A program, in the folder; its output without the last line feed. */
  async run(program: string, ...args: string[]): Promise<string> {
    const env = {
      HOME: this.#folder,
      PATH: process.env.PATH,
      CONTAINERS_STORAGE_CONF: join(this.#folder, 'storage.conf'),
      BUILDAH_ISOLATION: 'chroot',
    };
    return (await execute(program, args, { cwd: this.#folder, env })).stdout.trim();
  }

  /** An index of two platforms, each with a layer that holds the files. */
  async pushIndex(
    to: string,
    format: 'oci' | 'docker',
    files: Readonly<Record<string, string>>,
  ): Promise<void> {
    const name = this.#newName(format);
    const list = `list-${name}`;
    await this.run('buildah', 'manifest', 'create', list);
    for (const architecture of architectures) {
      const root = await this.#root(`${name}-${architecture}`, { ...files, architecture });
      const container = await this.run('buildah', 'from', '--arch', architecture, 'scratch');
      await this.run('buildah', 'add', '--quiet', container, root, '/');
      await this.run('buildah', 'config', '--arch', architecture, '--os', 'linux', container);
      const image = `app-${name}:${architecture}`;
      await this.run('buildah', 'commit', '--quiet', '--rm', '--format', format, container, image);
      const stored = `containers-storage:localhost/${image}`;
      await this.run('buildah', 'manifest', 'add', '--arch', architecture, list, stored);
    }
    const pushed = format === 'oci' ? 'oci' : 'v2s2';
    const options = ['--all', '--tls-verify=false', '--format', pushed];
    await this.run('buildah', 'manifest', 'push', ...options, list, `docker://${to}`);
  }

  /** One manifest of two layers, in OCI's format. */
  async pushManifest(to: string, files: Readonly<Record<string, string>>): Promise<void> {
    const layout = this.#newName('layout');
    const image = `${layout}:one`;
    await this.run('umoci', 'init', '--layout', layout);
    await this.run('umoci', 'new', '--image', image);
    for (const [name, text] of Object.entries(files)) {
      await this.run(
        'umoci',
        'insert',
        '--image',
        image,
        join(await this.#root(`${layout}-${name}`, { [name]: text }), name),
        `/${name}`,
      );
    }
    await this.run(
      'skopeo',
      '--insecure-policy',
      'copy',
      '--dest-tls-verify=false',
      `oci:${image}`,
      `docker://${to}`,
    );
  }

  /** Pulls what a name stands for, as a container engine does. @param creds user and password @returns the folder with its files */
  async unpack(from: string, creds?: string): Promise<string> {
    const name = this.#newName('pulled');
    const choice = ['--insecure-policy', '--override-arch', 'amd64', '--override-os', 'linux'];
    const login = creds === undefined ? [] : ['--src-creds', creds];
    const copy = ['copy', '--src-tls-verify=false', ...login];
    await this.run('skopeo', ...choice, ...copy, `docker://${from}`, `oci:${name}:pulled`);
    await this.run('umoci', 'raw', 'unpack', '--image', `${name}:pulled`, `${name}-root`);
    return join(this.#folder, `${name}-root`);
  }

  #newName(kind: string): string {
    this.#made += 1;
    return `${kind}-${this.#made}`;
  }

  async #root(name: string, files: Readonly<Record<string, string>>): Promise<string> {
    const root = join(this.#folder, `root-${name}`);
    await mkdir(root, { recursive: true });
    for (const [file, text] of Object.entries(files)) await writeFile(join(root, file), text);
    return root;
  }
}
