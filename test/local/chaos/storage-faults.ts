/** What Azure Storage refuses on a bad day, in the forms that it really has. */
import { setTimeout as delay } from 'node:timers/promises';
import { BlobServiceClient } from '@azure/storage-blob';
import type { StatusFault } from '../fault-kinds.ts';
import type { Overtake } from '../faults.ts';

/**
 * While rights are given, rules of the network change or keys are exchanged, some of a service's machines know it and some
 * do not. (https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes)
 */
export const denials: readonly StatusFault[] = [
  denial('AuthorizationFailure', 'This request is not authorized to perform this operation.'),
  denial(
    'AuthorizationPermissionMismatch',
    'This request is not authorized to perform this operation using this permission.',
  ),
  denial('AuthenticationFailed', 'Server failed to authenticate the request.'),
];

function denial(code: string, message: string): StatusFault {
  return {
    kind: 'status',
    status: 403,
    headers: { 'content-type': 'application/xml', 'x-ms-error-code': code },
    body: `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`,
  };
}

const leaseSeconds = 15;
const longestHoldMs = 100;

/**
 * Another client of the account, which is first: it writes the document once more, so that its ETag is another, or takes the
 * lease that is asked for. A refusal that follows (409, 412) is the service's own, and true.
 */
export function rivalIn(connectionString: string): Overtake {
  const account = BlobServiceClient.fromConnectionString(connectionString);
  return async ({ url, headers }) => {
    const [container, name] = nameIn(url, new URL(account.url).pathname);
    if (name === '') return;
    const blob = account.getContainerClient(container).getBlobClient(name);
    // Where the document is not there, or is held by another, there is nothing to be first at.
    const nothing = () => undefined;
    if (headers['x-ms-lease-action'] === 'acquire') {
      const lease = blob.getBlobLeaseClient();
      const held = await lease.acquireLease(leaseSeconds).catch(nothing);
      if (held !== undefined) void delay(longestHoldMs).then(() => lease.releaseLease().catch(nothing));
      return;
    }
    const properties = await blob.getProperties().catch(nothing);
    if (properties === undefined) return;
    const { metadata, etag = '' } = properties;
    await blob.setMetadata(metadata, { conditions: { ifMatch: etag } }).catch(nothing);
  };
}

/** The container and the blob; both empty for what is about neither. */
function nameIn(url: string, base: string): [string, string] {
  const path = decodeURIComponent(new URL(url, 'http://localhost').pathname);
  const [container = '', ...name] = path.slice(base.length).split('/').filter(Boolean);
  return [container, name.join('/')];
}
