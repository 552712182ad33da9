/** What a platform filter makes of a manifest. */
import { HubferryError, summarize } from '../../errors.ts';
import { deriveIndex } from '../../oci/derive.ts';
import type { Descriptor, Manifest, Platform } from '../../oci/descriptor.ts';
import { parseManifest, platformOfConfig } from '../../oci/manifest.ts';
import { formatPlatform, matchesPlatform, type PlatformPattern } from '../../oci/platform.ts';
import { readAll, verified } from '../../oci/verify.ts';
import type { Derived, Facts } from './facts.ts';
import { type GraphCopier, nothingDerived, type Passage } from './graph.ts';

/** What is to be at the target: the manifest to push, or a reason to leave it. */
export type Cargo = Loaded | { readonly skip: string };

interface Loaded {
  readonly manifest: Manifest;
  readonly derived: Passage['derived'];
}

const maxConfigBytes = 4 * 1024 * 1024;

/** What platforms make of a manifest; remembered, also where nothing is left. */
export async function deriveCargo(
  from: Descriptor,
  platforms: readonly PlatformPattern[],
  passage: Passage,
  graph: GraphCopier,
  facts: Facts,
): Promise<Cargo> {
  const { manifest } = await graph.obtain(from, passage);
  try {
    const cargo = await filter(manifest, platforms, passage, graph);
    await remembered(facts.noteDerived(platforms, from.digest, derivedIn(cargo)), passage);
    return cargo;
  } catch (error) {
    const isEmptied = error instanceof HubferryError && error.code === 'ERR_PLATFORM_MISSING';
    if (isEmptied) await remembered(facts.noteNotDerived(platforms, from.digest, error), passage);
    throw error;
  }
}

/** What cannot be remembered is known all the same: it is found out again the next time. */
async function remembered(note: Promise<void>, { work }: Passage): Promise<void> {
  try {
    await note;
  } catch (error) {
    const { code, message } = summarize(error);
    const fields = { code, error: message };
    work.onEvent({
      type: 'log',
      level: 'warn',
      message: 'what platforms make of a manifest is not remembered',
      fields,
    });
  }
}

export function derivedIn(cargo: Cargo): Derived {
  return 'skip' in cargo ? 'skip' : cargo.manifest.descriptor.digest;
}

async function filter(
  manifest: Manifest,
  platforms: readonly PlatformPattern[],
  passage: Passage,
  graph: GraphCopier,
): Promise<Cargo> {
  const content = parseManifest(manifest);
  if (content.kind === 'index') {
    const open = async (child: Descriptor) => (await graph.obtain(child, passage)).manifest;
    const derived = await deriveIndex(manifest, platforms, open);
    return { manifest: derived.manifest, derived: derived.written };
  }
  const platform = content.config === undefined ? undefined : await platformOf(content.config, passage);
  if (platform === undefined || matchesPlatform(platform, platforms))
    return { manifest, derived: nothingDerived };
  return { skip: `its platform ${formatPlatform(platform)} is not kept` };
}

/** The platform that a config names (image-spec v1.1 config.md); an artefact has none. */
async function platformOf(config: Descriptor, passage: Passage): Promise<Platform | undefined> {
  if (!/\.(image\.config|container\.image)\.v1\+json$/.test(config.mediaType)) return undefined;
  const stream = await passage.source.openBlob(config, 0, { signal: passage.work.stop });
  if (stream === undefined) return undefined;
  return platformOfConfig(await readAll(verified(stream, config), maxConfigBytes));
}
