/** The rooms of the README, and who may import whom: read from the sources themselves. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };

const root = path.join(import.meta.dirname, '../..');

interface Room {
  readonly imports: readonly string[];
  /** Contracts only: what is gone once the types are stripped. */
  readonly typesOf?: readonly string[];
}

const ends = ['config', 'sync', 'dockerhub', 'acr', 'registry', 'storage', 'oci', 'errors'];

/** A room is a folder, with the file of its name beside it. Composition is `app`, `service`, `clients`, `doctor`, `health`, `heap`, `identity` and `shared-gate`. */
const rooms: Readonly<Record<string, Room>> = {
  functions: { imports: ['composition', 'manual', 'dockerhub', 'sync', 'log', 'errors'] },
  cli: { imports: ['composition', 'config', 'sync', 'log', 'oci', 'errors'] },
  composition: { imports: [...ends, 'notify'], typesOf: ['cli', 'manual'] },
  notify: { imports: ['registry', 'sync', 'errors'], typesOf: ['config', 'storage'] },
  manual: { imports: ['errors'] },
  dashboard: { imports: ['errors'], typesOf: ['sync'] },
  log: { imports: ['errors'], typesOf: ['sync'] },
  dockerhub: { imports: ['registry', 'oci', 'errors'], typesOf: ['config'] },
  acr: { imports: ['registry', 'oci', 'errors'], typesOf: ['config'] },
  registry: { imports: ['oci', 'errors'], typesOf: ['config'] },
  // A rules file is refused by the pattern and version parsers that later select its tags.
  config: { imports: ['sync', 'oci', 'errors'] },
  sync: { imports: ['oci', 'errors'], typesOf: ['config', 'storage'] },
  storage: { imports: ['oci', 'errors'] },
  oci: { imports: ['errors'] },
  errors: { imports: [] },
};

/** The parts of sync/, each of which sees those before it. What lies in none is seen by all, but for the engine of the command line. */
const directEngine = 'lib/sync/direct.ts';
const parts = ['', 'select', 'runs', 'copy', 'plan', 'queue'];

/** Each dependency lives where it is hidden from the rest. */
const homes: Readonly<Record<string, readonly string[]>> = {
  '@azure/functions': ['functions'],
  '@azure/container-registry': ['acr'],
  '@azure/core-rest-pipeline': ['acr'],
  '@azure/identity': ['composition'],
  '@azure/core-auth': ['composition', 'acr', 'storage'],
  '@azure/storage-blob': ['storage'],
  '@azure/storage-queue': ['storage'],
  undici: ['registry'],
  zod: ['config', 'sync', 'oci', 'dockerhub', 'manual', 'notify'],
  yaml: ['config', 'cli'],
  re2js: ['sync'],
  semver: ['sync'],
};

/** The contracts of other rooms that sync/ may see. */
const contractsForSync = ['lib/config/model.ts', 'lib/storage/ports.ts'];

const environmentReaders = ['lib/cli/main.ts', 'lib/config/environment.ts', 'lib/service.ts'];

interface Import {
  readonly file: string;
  /** A path from the root for our own files, else the specifier. */
  readonly target: string;
  readonly typeOnly: boolean;
}

const importShape =
  /^(?:import|export)(?<type> type)? (?:[^;']*? from )?'(?<static>[^']+)'|\bimport\('(?<dynamic>[^']+)'\)/gm;

function importsOf(file: string, text: string): Import[] {
  return [...text.matchAll(importShape)].map(({ groups = {} }) => {
    const specifier = groups.static ?? groups.dynamic ?? '';
    const target = specifier.startsWith('.')
      ? path.posix.join(path.posix.dirname(file), specifier)
      : specifier;
    return { file, target, typeOnly: groups.type !== undefined };
  });
}

function roomOf(file: string): string {
  if (file.startsWith('functions/')) return 'functions';
  const name = path.posix.basename(file.split('/')[1] ?? '', '.ts');
  return ['app', 'service', 'clients', 'doctor', 'health', 'heap', 'identity', 'shared-gate'].includes(name)
    ? 'composition'
    : name;
}

function partOf(file: string): string {
  const [, , part = '', below] = file.split('/');
  return below === undefined ? '' : part;
}

function placeIn(file: string): number {
  return parts.indexOf(partOf(file));
}

function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

function isAllowed({ file, target, typeOnly }: Import): boolean {
  const room = roomOf(file);
  if (target.startsWith('node:')) return true;
  if (target === 'package.json') return room === 'cli'; // for --version
  if (!/^(lib|functions)\//.test(target)) return homes[packageOf(target)]?.includes(room) === true;
  const { imports = [], typesOf = [] } = rooms[room] ?? {};
  const there = roomOf(target);
  return there === room || imports.includes(there) || (typeOnly && typesOf.includes(there));
}

const sources = globSync(['lib/**/*.ts', 'functions/**/*.ts'], { cwd: root })
  .map((file) => file.split(path.sep).join('/'))
  .sort()
  .map((file) => ({ file, text: readFileSync(path.join(root, file), 'utf8') }));

const imports = sources.flatMap(({ file, text }) => importsOf(file, text));

/** As one line each, for a message that can be acted on. */
function told(found: readonly Import[]): string[] {
  return found.map(({ file, target }) => `${file} imports ${target}`);
}

function filesWith(shape: RegExp): string[] {
  return sources.filter(({ text }) => shape.test(text)).map(({ file }) => file);
}

describe('imports', () => {
  it('are found in every form', () => {
    const text = [
      "import './a.ts';",
      "import type { B } from '../b/b.ts';",
      "import {\n  c,\n} from '@azure/identity';",
      "export { d } from './d.ts';",
      "  const { e } = await import('./e.ts');",
    ].join('\n');
    expect(importsOf('lib/x/y.ts', text)).toEqual([
      { file: 'lib/x/y.ts', target: 'lib/x/a.ts', typeOnly: false },
      { file: 'lib/x/y.ts', target: 'lib/b/b.ts', typeOnly: true },
      { file: 'lib/x/y.ts', target: '@azure/identity', typeOnly: false },
      { file: 'lib/x/y.ts', target: 'lib/x/d.ts', typeOnly: false },
      { file: 'lib/x/y.ts', target: 'lib/x/e.ts', typeOnly: false },
    ]);
  });

  it.each([
    ["import { createEngine } from '../app.ts';", 'lib/sync/a.ts'],
    ["import { createRegistry } from '../registry/registry.ts';", 'lib/sync/a.ts'],
    ["import { openFolderStores } from '../storage/folder.ts';", 'lib/sync/a.ts'],
    ["import { Agent } from 'undici';", 'lib/sync/a.ts'],
    ["import { createAcr } from '../acr.ts';", 'lib/registry/a.ts'],
    ["import { createDockerHub } from './dockerhub.ts';", 'lib/acr.ts'],
    ["import { app } from '@azure/functions';", 'lib/service.ts'],
    ["import { main } from './cli/main.ts';", 'lib/app.ts'],
    ["import { readFile } from 'left-pad';", 'lib/oci/a.ts'],
  ])('against their direction are refused: %s', (text, file) => {
    expect(importsOf(file, text).filter(isAllowed)).toEqual([]);
  });

  it('go from room to room in one direction', () => {
    expect(told(imports.filter((one) => !isAllowed(one)))).toEqual([]);
  });

  it('go from part to part of sync/ in one direction', () => {
    const within = imports.filter(({ file, target }) =>
      [file, target].every((one) => roomOf(one) === 'sync'),
    );
    expect(new Set(within.map(({ file }) => partOf(file)))).toEqual(new Set(parts));
    const isBack = ({ file, target }: Import) =>
      target === directEngine || (file !== directEngine && placeIn(file) < placeIn(target));
    expect(told(within.filter(isBack))).toEqual([]);
  });

  it('of sync/ reach no further than the contracts of config and storage', () => {
    const others = imports.filter(({ file, target }) => {
      return roomOf(file) === 'sync' && ['config', 'storage'].includes(roomOf(target));
    });
    expect(told(others.filter(({ target }) => !contractsForSync.includes(target)))).toEqual([]);
  });
});

describe('rooms', () => {
  it('are all known here, and none is empty', () => {
    expect([...new Set(sources.map(({ file }) => roomOf(file)))].sort()).toEqual(Object.keys(rooms).sort());
  });

  it('hold the dependencies that are meant for them, and every dependency has a room', () => {
    expect(Object.keys(homes).sort()).toEqual(Object.keys(packageJson.dependencies).sort());
    const used = new Set(imports.map(({ file, target }) => `${packageOf(target)} in ${roomOf(file)}`));
    const meant = Object.entries(homes).flatMap(([name, places]) =>
      places.map((room) => `${name} in ${room}`),
    );
    expect(meant.filter((one) => !used.has(one))).toEqual([]);
  });

  it('and the reason of every dependency are in CONTRIBUTING.md, and none that is gone', () => {
    const section = /^## Dependencies$(.*?)^## /ms.exec(read('CONTRIBUTING.md'))?.[1] ?? '';
    const rows = section.split('\n').filter((line) => line.startsWith('| `'));
    const named = rows.flatMap((row) => (row.split('|')[1] ?? '').match(/[^`\s,]+/g) ?? []);
    const { dependencies, devDependencies } = packageJson;
    expect(named.sort()).toEqual(Object.keys({ ...dependencies, ...devDependencies }).sort());
  });

  it('of digests and manifests do no input or output', () => {
    const io = /^node:(fs|http|https|net|tls|dns|child_process)/;
    const wrong = imports.filter(({ file, target }) => roomOf(file) === 'oci' && io.test(target));
    expect(told(wrong)).toEqual([]);
  });
});

describe('sources', () => {
  it('read the environment only where a process starts', () => {
    expect(filesWith(/\bprocess\.env\b/)).toEqual(environmentReaders);
  });

  it('go out to HTTP only through registry/ and the SDKs', () => {
    // The one `fetch` is the dashboard's, which runs in a browser.
    expect(filesWith(/\bfetch\(|'node:https?'/)).toEqual(['lib/dashboard/api.ts']);
  });

  it('have no default exports, no barrels and no enums, which type stripping cannot run', () => {
    expect(filesWith(/^export default |^export \* from |^(export )?(const )?enum /m)).toEqual([]);
  });
});

describe('documents', () => {
  const documents = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md'];

  it.each(documents)('%s links only to files and headings that exist', (name) => {
    const broken = linksOf(read(name)).filter((link) => !leadsSomewhere(name, link));
    expect(broken).toEqual([]);
  });

  it('name every room and every function of the app', () => {
    const readme = read('README.md');
    const triggers = sources
      .filter(({ file }) => file.startsWith('functions/'))
      .flatMap(({ text }) =>
        [...text.matchAll(/\bapp\.(?:http|timer|storageQueue)\('(\w+)'/g)].map(([, name]) => name),
      );
    const places = new Set(
      sources.map(({ file }) => (file.startsWith('functions/') ? 'functions/' : placeOf(file))),
    );
    expect(triggers.length).toBeGreaterThan(0);
    expect([...triggers, ...places].filter((name) => !readme.includes(`\`${name}\``))).toEqual([]);
  });
});

function read(name: string): string {
  return readFileSync(path.join(root, name), 'utf8');
}

/** Relative ones; the web is not asked. */
function linksOf(text: string): string[] {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link = '']) => link)
    .filter((link) => !/^https?:/.test(link));
}

function leadsSomewhere(from: string, link: string): boolean {
  const [file = '', anchor] = link.split('#');
  const target = file === '' ? from : file;
  if (!existsSync(path.join(root, target))) return false;
  return anchor === undefined || headingsOf(read(target)).includes(anchor);
}

/** As GitHub makes anchors of them. */
function headingsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** How the README's table of rooms names the place of a file in lib/. */
function placeOf(file: string): string {
  const [, first = '', below] = file.split('/');
  if (below !== undefined) return `lib/${first}/`;
  return ['app.ts', 'dockerhub.ts', 'acr.ts', 'errors.ts'].includes(first) ? `lib/${first}` : first;
}
