/**
 * Where registries send clients for blobs: another host, a signed URL that expires, and a refusal for whoever
 * brings the registry's credentials along.
 */
import { createHmac, randomBytes } from 'node:crypto';
import type { Digest } from '../../lib/oci/descriptor.ts';
import { notAllowed, replyError } from './answers.ts';
import { serveBlob } from './distribution.ts';
import { type Answer, type Certificate, type Exchange, type LocalServer, startServer } from './server.ts';
import type { LocalStore } from './store.ts';

export interface CdnOptions {
  readonly tls?: Certificate | undefined;
  readonly log?: boolean | undefined;
  /** How long a URL is good. @default 600 */
  readonly urlLifetimeSeconds?: number | undefined;
}

export interface Cdn extends LocalServer {
  /** Whether `Range` is obeyed. */
  ranges: boolean;
  /** Speed of one download. */
  bytesPerSecond: number | undefined;
  /** A URL that serves the blob for a while. */
  sign(repository: string, digest: Digest): string;
}

export async function startCdn(store: LocalStore, options: CdnOptions = {}): Promise<Cdn> {
  const { tls, log, urlLifetimeSeconds = 600 } = options;
  const key = randomBytes(16);
  const signature = (path: string, expires: string) =>
    createHmac('sha256', key).update(`${path} ${expires}`).digest('hex');

  const respond = (exchange: Exchange): Answer => {
    const { path } = exchange;
    if (exchange.method !== 'GET' && exchange.method !== 'HEAD') return notAllowed();
    if (exchange.headers.authorization !== undefined) {
      return replyError(400, 'INVALID_ARGUMENT', 'only one way to authenticate is allowed');
    }
    const expires = exchange.query('expires') ?? '';
    const good = exchange.query('signature') === signature(path, expires);
    if (!good || Number(expires) <= store.now()) {
      return replyError(403, 'DENIED', good ? 'the URL has expired' : 'the signature is wrong');
    }
    const [, repository = '', digest = ''] = /^\/(.+)\/([^/]+)$/.exec(path) ?? [];
    const blob = store.repository(repository).blobs.get(digest as Digest);
    if (blob === undefined) return replyError(404, 'BLOB_UNKNOWN', 'no such blob');
    return serveBlob(exchange, digest as Digest, blob, cdn);
  };

  const server = await startServer(respond, { tls, log });
  const cdn: Cdn = Object.assign(server, {
    ranges: true,
    bytesPerSecond: undefined,
    sign(repository: string, digest: Digest) {
      const path = `/${repository}/${digest}`;
      const expires = String(store.now() + urlLifetimeSeconds * 1000);
      return `${server.url}${path}?expires=${expires}&signature=${signature(path, expires)}`;
    },
  });
  return cdn;
}
