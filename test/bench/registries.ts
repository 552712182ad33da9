/** Real registries, filled and read as any client does. */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Digest } from '../../lib/oci/descriptor.ts';
import { type BlobContent, blobsOf, type Content } from '../local/content.ts';
import { type DockerRegistry, startDockerRegistry } from '../local/docker-registry.ts';

/** Pushes a manifest with its blobs under a tag. Blobs that several tags share are pushed once. */
export async function push(
  to: DockerRegistry,
  repository: string,
  tag: string,
  content: Content,
): Promise<void> {
  const base = `${to.url}/v2/${repository}`;
  for (const blob of blobsOf(content)) await pushBlob(base, blob);
  const { descriptor, bytes } = content;
  await send('PUT', `${base}/manifests/${tag}`, {
    headers: { 'content-type': descriptor.mediaType },
    body: Buffer.from(bytes),
  });
}

async function pushBlob(base: string, { descriptor, size, open }: BlobContent): Promise<void> {
  const known = await fetch(`${base}/blobs/${descriptor.digest}`, { method: 'HEAD' });
  if (known.ok) return;
  const opened = await send('POST', `${base}/blobs/uploads/`);
  const location = new URL(opened.headers.get('location') ?? '', base);
  location.searchParams.set('digest', descriptor.digest);
  await send('PUT', location, {
    headers: { 'content-type': 'application/octet-stream', 'content-length': `${size}` },
    body: Readable.toWeb(Readable.from(open(0, size))),
    duplex: 'half',
  });
}

async function send(method: string, url: string | URL, options: RequestInit = {}): Promise<Response> {
  const response = await fetch(url, { ...options, method });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`${method} ${url} was answered with ${response.status}`);
  return response;
}

/** Runs something with an empty registry, which is gone afterwards with all that it got. */
export async function withRegistry<T>(work: (registry: DockerRegistry) => Promise<T>): Promise<T> {
  const registry = await startDockerRegistry();
  try {
    return await work(registry);
  } finally {
    await registry.close();
  }
}

const accept = 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json';

/** What a tag names. @throws where there is no such tag */
export async function digestOfTag({ url }: DockerRegistry, repository: string, tag: string): Promise<string> {
  const response = await send('HEAD', `${url}/v2/${repository}/manifests/${tag}`, { headers: { accept } });
  return response.headers.get('docker-content-digest') ?? '';
}

/** The digest of a blob's bytes as they come out again. */
export async function digestOfBlob(
  { url }: DockerRegistry,
  repository: string,
  digest: Digest,
): Promise<string> {
  const response = await fetch(`${url}/v2/${repository}/blobs/${digest}`);
  const hash = createHash('sha256');
  for await (const piece of response.body ?? []) hash.update(piece);
  return `sha256:${hash.digest('hex')}`;
}

export async function tagsOf({ url }: DockerRegistry, repository: string): Promise<readonly string[]> {
  const response = await fetch(`${url}/v2/${repository}/tags/list?n=10000`);
  const { tags } = (await response.json()) as { tags: readonly string[] };
  return tags;
}
