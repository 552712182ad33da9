import type { Descriptor, Manifest, Platform } from '../../../lib/oci/descriptor.ts';
import { digestOf } from '../../../lib/oci/digest.ts';
import { descriptorOf, mediaTypes } from '../../../lib/oci/manifest.ts';

/** Bytes with their descriptor, as a registry hands them over. */
export function manifestOf(body: unknown, mediaType: string = mediaTypes.ociManifest): Manifest {
  return textManifest(JSON.stringify(body), mediaType);
}

export function textManifest(text: string, mediaType: string = mediaTypes.ociManifest): Manifest {
  const bytes = new TextEncoder().encode(text);
  return { descriptor: descriptorOf(bytes, mediaType), bytes };
}

/** A descriptor of content that is told apart by its seed. */
export function descriptor(seed: string, more: Partial<Descriptor> = {}): Descriptor {
  const bytes = new TextEncoder().encode(seed);
  return {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest: digestOf(bytes),
    size: bytes.byteLength,
    ...more,
  };
}

export function child(platform: string | undefined, more: Partial<Descriptor> = {}): Descriptor {
  return descriptor(platform ?? 'no platform', {
    mediaType: mediaTypes.ociManifest,
    ...(platform !== undefined && { platform: platformOf(platform) }),
    ...more,
  });
}

/** What BuildKit adds to an index about one of its entries. */
export function attestation(subject: Descriptor): Descriptor {
  return descriptor(`attestation of ${subject.digest}`, {
    mediaType: mediaTypes.ociManifest,
    platform: { os: 'unknown', architecture: 'unknown' },
    annotations: {
      'vnd.docker.reference.type': 'attestation-manifest',
      'vnd.docker.reference.digest': subject.digest,
    },
  });
}

export function indexOf(manifests: readonly unknown[], more: object = {}): Manifest {
  return manifestOf(
    { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests, ...more },
    mediaTypes.ociIndex,
  );
}

function platformOf(text: string): Platform {
  const [os = '', architecture = '', variant] = text.split('/');
  return { os, architecture, ...(variant !== undefined && { variant }) };
}
