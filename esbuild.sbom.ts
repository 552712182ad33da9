/** What a bundle is made of, in CycloneDX 1.6: the packages that left something in it, and nothing that is only installed beside. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Metafile } from 'esbuild';
import packageJson from './package.json' with { type: 'json' };
import lock from './package-lock.json' with { type: 'json' };

export interface BundledPackage {
  /** As the bundler found it. */
  readonly folder: string;
  readonly name: string;
  readonly version: string;
  /** An SPDX expression. */
  readonly license: string;
}

const root = import.meta.dirname;

/** The packages that left something in a bundle, by name. */
export async function packagesIn({ outputs }: Metafile): Promise<BundledPackage[]> {
  const folders = new Set<string>();
  for (const { inputs } of Object.values(outputs)) {
    for (const [file, { bytesInOutput }] of Object.entries(inputs)) {
      const folder = folderOf(file);
      if (folder && bytesInOutput > 0) folders.add(folder);
    }
  }
  const packages = await Promise.all([...folders].map(readPackage));
  return packages.sort((a, b) => (purlOf(a) < purlOf(b) ? -1 : 1));
}

/** Of the package that a file belongs to; `undefined` for our own. */
function folderOf(file: string): string | undefined {
  return /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0];
}

async function readPackage(folder: string): Promise<BundledPackage> {
  const { name, version, license } = JSON.parse(
    await readFile(path.join(root, folder, 'package.json'), 'utf8'),
  );
  return { folder, name, version, license };
}

/** The same packages give the same document: it carries no time and no serial number. */
export function sbomOf(packages: readonly BundledPackage[], metafile: Metafile): object {
  const { name, version, license } = packageJson;
  const application = { ...componentOf({ folder: '', name, version, license }), type: 'application' };
  const components = packages.map(componentOf);
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: application },
    // A package of one version may lie in two folders.
    components: [...new Map(components.map((component) => [component['bom-ref'], component])).values()],
    dependencies: dependenciesOf(packages, application['bom-ref'], metafile),
  };
}

/** Which component imports which, as the bundler found it. */
function dependenciesOf(packages: readonly BundledPackage[], application: string, { inputs }: Metafile) {
  const references = new Map(packages.map((bundled) => [bundled.folder, purlOf(bundled)]));
  const imported = new Map([application, ...references.values()].map((ref) => [ref, new Set<string>()]));
  const referenceTo = (file: string) => {
    const folder = folderOf(file);
    return folder === undefined ? application : references.get(folder);
  };
  for (const [file, { imports }] of Object.entries(inputs)) {
    const from = referenceTo(file);
    for (const { path: target, external } of imports) {
      const to = external ? undefined : referenceTo(target);
      if (from !== undefined && to !== undefined && to !== from) imported.get(from)?.add(to);
    }
  }
  return [...imported].map(([ref, on]) => ({ ref, dependsOn: [...on].sort() }));
}

function componentOf(bundled: BundledPackage) {
  const { name, version, license } = bundled;
  const purl = purlOf(bundled);
  const hash = hashOf(bundled);
  return {
    type: 'library',
    'bom-ref': purl,
    name,
    version,
    ...(hash && { hashes: [{ alg: 'SHA-512', content: hash }] }),
    licenses: [/^[\w.-]+$/.test(license) ? { license: { id: license } } : { expression: license }],
    purl,
  };
}

/** Of the archive that the lock file pins; none for what is installed otherwise. */
function hashOf({ folder, version }: BundledPackage): string | undefined {
  const entries: Readonly<Record<string, object | undefined>> = lock.packages;
  const entry = entries[folder.slice(folder.indexOf('node_modules/'))];
  if (entry === undefined || !('integrity' in entry && 'version' in entry)) return undefined;
  const [, base64] = /^sha512-(.+)$/.exec(String(entry.integrity)) ?? [];
  return base64 && entry.version === version ? Buffer.from(base64, 'base64').toString('hex') : undefined;
}

function purlOf({ name, version }: BundledPackage): string {
  return `pkg:npm/${name.replace('@', '%40')}@${version}`;
}
