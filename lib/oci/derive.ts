/**
 * The index that holds only some platforms of another. Everybody who derives it from the same bytes with the same
 * patterns gets the same digest, so that the target can be compared with it.
 */
import { HubferryError } from '../errors.ts';
import type { Descriptor, Manifest } from './descriptor.ts';
import { algorithmOf } from './digest.ts';
import { canonicalJson } from './json.ts';
import { attestationSubject, descriptorOf, isAttestation, parseBody } from './manifest.ts';
import { formatPlatform, formatPlatformPattern, matchesPlatform, type PlatformPattern } from './platform.ts';

/** Changes whenever the same index and patterns would give other bytes than before; part of every remembered result. */
export const rewriteVersion = 1;

export interface Derived {
  readonly manifest: Manifest;
  readonly kept: readonly Descriptor[];
  readonly dropped: readonly Descriptor[];
}

/**
 * Keeps the children of an index that the patterns take, and what is attested about them.
 *
 * An entry without a platform is dropped, since nothing tells that it was asked for: a nested index too, which is
 * otherwise kept or dropped as a whole. Annotations, subject and fields unknown to hubferry stay. Where nothing is
 * dropped, and for a manifest that is no index, the bytes stay as they came; else they are written canonically
 * (RFC 8785).
 *
 * @throws ERR_PLATFORM_MISSING where no child is left.
 */
export function deriveIndex(manifest: Manifest, patterns: readonly PlatformPattern[]): Derived {
  const { content, json } = parseBody(manifest);
  const keep = choose(content.manifests, patterns);
  const kept = content.manifests.filter((_, i) => keep[i]);
  const dropped = content.manifests.filter((_, i) => !keep[i]);
  if (dropped.length === 0) return { manifest, kept, dropped };
  if (kept.length === 0) throw nothingLeft(dropped, patterns);
  const entries = Array.isArray(json.manifests) ? json.manifests : [];
  const rewritten = { ...json, manifests: entries.filter((_, i) => keep[i]) };
  const bytes = new TextEncoder().encode(canonicalJson(rewritten));
  const descriptor = descriptorOf(bytes, content.mediaType, algorithmOf(manifest.descriptor.digest));
  return { manifest: { descriptor, bytes }, kept, dropped };
}

function choose(children: readonly Descriptor[], patterns: readonly PlatformPattern[]): readonly boolean[] {
  if (patterns.length === 0) return children.map(() => true);
  const taken = children.map((child) => !isAttestation(child) && matchesPlatform(child.platform, patterns));
  const subjects = new Set(children.filter((_, i) => taken[i]).map(({ digest }) => digest));
  return children.map((child, i) => {
    const subject = attestationSubject(child);
    return taken[i] || (subject !== undefined && subjects.has(subject));
  });
}

function nothingLeft(dropped: readonly Descriptor[], patterns: readonly PlatformPattern[]): HubferryError {
  const wanted = patterns.map(formatPlatformPattern).join(', ');
  const offered = new Set(
    dropped
      .filter((child) => !isAttestation(child))
      .map(({ platform }) => (platform ? formatPlatform(platform) : 'entries without a platform')),
  );
  const named = [...offered].sort().slice(0, 50).join(', ') || 'attestations alone';
  return new HubferryError('ERR_PLATFORM_MISSING', `The index has nothing for ${wanted}; it has ${named}.`);
}
