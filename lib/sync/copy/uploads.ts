/** What all uploads of blobs have in common. */
import { HubferryError } from '../../errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Target, UploadSession } from '../../oci/roles.ts';
import type { Work } from './work.ts';

/** A registry drops a session that could not be cancelled in so many milliseconds by itself. */
const cancelMs = 3000;

/** Existence is status and size: the algorithm of a digest header proves nothing. */
export async function exists(blob: Descriptor, target: Target, work: Work): Promise<boolean> {
  const there = await target.statBlob(blob.digest, { signal: work.stop });
  if (there === undefined) return false;
  const { size = blob.size } = there;
  if (size !== blob.size) {
    throw new HubferryError(
      'ERR_SIZE_MISMATCH',
      `${blob.digest} has ${size} bytes at ${target.name}, but the source's manifest says ${blob.size}`,
    );
  }
  return true;
}

/** Of what only tidies up, nobody waits for success, nor for long. */
export async function cancelQuietly(session: UploadSession): Promise<void> {
  await session.cancel({ signal: AbortSignal.timeout(cancelMs) }).catch(() => undefined);
}

export function isLostUpload(error: unknown): boolean {
  return error instanceof HubferryError && error.code === 'ERR_UPLOAD_LOST';
}

export function isMismatch(error: unknown): boolean {
  return error instanceof HubferryError && error.code === 'ERR_DIGEST_MISMATCH';
}
