/** Who says to be about a digest (distribution-spec v1.1 "Listing Referrers" and "Referrers Tag Schema"). */

import { codeOf } from '../errors.ts';
import type { Descriptor, Digest, Manifest } from '../oci/descriptor.ts';
import { descriptorOf, maxManifestBytes, mediaTypes, parseManifest } from '../oci/manifest.ts';
import { failureOf } from './failure.ts';
import { headerOf } from './headers.ts';
import { nextPage, type PageCursor } from './paging.ts';
import type { Send, TransportRequest, TransportResponse } from './send.ts';

/** Whether the registry has the referrers API, as far as it has shown; one for all repositories of a registry. */
export interface ReferrersSupport {
  api: 'unknown' | 'present' | 'absent';
}

const maxPages = 100;

/**
 * The referrers by the API; else what the answer shows of it: it is absent, or nothing is known, as for a repository that is
 * not there yet. What is no index is no answer of the API: some servers answer 200 to any path (oras-project/oras issue 2148).
 */
export async function referrersByApi(
  path: string,
  digest: Digest,
  send: Send,
  request: Pick<TransportRequest, 'scopes' | 'signal' | 'observer'>,
): Promise<readonly Descriptor[] | 'absent' | 'unknown'> {
  const found: Descriptor[] = [];
  const first = `/v2/${path}/referrers/${digest}`;
  let page: PageCursor | undefined = { url: first, pages: 0, mark: first };
  while (page !== undefined) {
    const response = await send({
      ...request,
      method: 'GET',
      url: page.url,
      headers: { accept: mediaTypes.ociIndex },
      limit: maxManifestBytes,
    });
    const descriptors = await descriptorsIn(response);
    if (typeof descriptors === 'string') return descriptors;
    found.push(...descriptors);
    page = nextPage(page, response);
    if (page !== undefined && page.pages > maxPages) {
      throw failureOf('Too many referrers', response, { code: 'ERR_TOO_LARGE' });
    }
  }
  return found;
}

async function descriptorsIn(
  response: TransportResponse,
): Promise<readonly Descriptor[] | 'absent' | 'unknown'> {
  const { status, faults } = response;
  if (status === 401 || status === 403 || status === 408 || status === 429 || status >= 500) {
    throw failureOf('The referrers are unknown', response);
  }
  if (status !== 200) {
    response.body.dump();
    return faults.some(({ code }) => code === 'NAME_UNKNOWN') ? 'unknown' : 'absent';
  }
  const bytes = await response.body.bytes(maxManifestBytes);
  const descriptor = descriptorOf(bytes, headerOf(response.headers, 'content-type') ?? '');
  return childrenIn({ bytes, descriptor }) ?? 'absent';
}

/** The children of an index; `undefined` for anything else. */
export function childrenIn(manifest: Manifest): readonly Descriptor[] | undefined {
  try {
    const content = parseManifest(manifest);
    return content.kind === 'index' ? content.manifests : undefined;
  } catch (error) {
    if (codeOf(error) === 'ERR_MANIFEST_INVALID' || codeOf(error) === 'ERR_SCHEMA1') return undefined;
    throw error;
  }
}
