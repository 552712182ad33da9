/** What keeps a tag at the target that the source no longer has. */
import type { Rule } from '../../config/model.ts';
import { parseManifest } from '../../oci/manifest.ts';
import type { Target } from '../../oci/roles.ts';
import { matchesNames } from '../select/select.ts';
import type { Facts } from './facts.ts';
import type { Sides } from './sides.ts';

export const goneReason = 'gone at source';

/**
 * Why a tag is not to be deleted, by what both sides say now; `undefined` where nothing keeps it. The source is asked last: a
 * listing can hide a tag, and a push can come at any moment.
 */
export async function whyKept(
  tag: { readonly source: string; readonly target: string },
  rule: Rule,
  { source, target }: Sides,
  facts: Facts,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (!matchesNames(rule)(tag.source)) return 'no longer selected by the rule';
  const there = await target.resolve(tag.target, { signal });
  if (there === undefined) return 'gone at the target already';
  const put = await facts.mirroredAs(source.name, target.name, tag.target);
  if (put?.digest !== there.digest || put.from !== tag.source)
    return 'the rule did not put there what it is now';
  if (await isAboutSomething(there.digest, target, signal))
    return 'it is about a manifest that is still there';
  if ((await source.resolve(tag.source, { signal })) !== undefined) return 'the source has it again';
  return undefined;
}

/** Whether a manifest refers to another one that the target has (image-spec v1.1 manifest.md "subject"). */
async function isAboutSomething(digest: string, target: Target, signal: AbortSignal): Promise<boolean> {
  const manifest = await target.fetchManifest(digest, { signal });
  const subject = manifest === undefined ? undefined : parseManifest(manifest).subject;
  return subject !== undefined && (await target.resolve(subject.digest, { signal })) !== undefined;
}
