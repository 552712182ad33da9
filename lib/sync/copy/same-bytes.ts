/** Digests of different algorithms may be of the same bytes. */
import type { Digest } from '../../oci/descriptor.ts';
import { algorithmOf, digestOf } from '../../oci/digest.ts';
import type { Target } from '../../oci/roles.ts';
import type { Facts } from './facts.ts';

/** Whether what the target has by one algorithm's digest is what another's means: no pull is needed for that. Equal ones are remembered. */
export async function sameBytes(
  expected: Digest,
  present: Digest,
  target: Target,
  facts: Facts,
  signal: AbortSignal,
): Promise<boolean> {
  if (await facts.isSame(expected, present)) return true;
  const there = await target.fetchManifest(present, { signal });
  if (there === undefined || digestOf(there.bytes, algorithmOf(expected)) !== expected) return false;
  // What cannot be remembered is compared again the next time.
  await facts.noteSame(expected, present).catch(() => undefined);
  return true;
}
