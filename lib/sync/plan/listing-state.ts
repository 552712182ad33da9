/** A listing as a document: a hundred bytes a tag. */
import * as z from 'zod';
import type { Platform } from '../../oci/descriptor.ts';
import { isDigest } from '../../oci/digest.ts';
import { isTag } from '../../oci/reference.ts';
import type { TagEntry } from '../../oci/roles.ts';
import type { TagTable } from '../select/tag-table.ts';
import { parseStored } from '../stored.ts';

const platformShape = z.looseObject({ os: z.string(), architecture: z.string() });
const platformSchema = z.custom<Platform>((value) => platformShape.safeParse(value).success);

const stateSchema = z.object({
  state: z.enum(['unread', 'whole', 'absent']),
  /** Where the next page starts. */
  next: z.string().optional(),
  /** Sets of platforms that tags offer, each once. */
  platforms: z.array(z.array(platformSchema)),
  /** Name or digest, digest, time of the last push, marks, place among the platforms. */
  tags: z.array(
    z.tuple([
      z.string().refine((name) => isTag(name) || isDigest(name)),
      z.string().refine(isDigest).nullable(),
      z.number().nullable(),
      z.int(),
      z.int().nullable(),
    ]),
  ),
});
export type ListingState = z.infer<typeof stateSchema>;

const lockedMark = 1;
const sureMark = 2;

/** `undefined` for what is no listing, or one of another version. */
export function parseListing(bytes: Uint8Array): ListingState | undefined {
  return parseStored(bytes, stateSchema);
}

export function pack(table: TagTable): Pick<ListingState, 'platforms' | 'tags'> {
  const places = new Map<TagEntry['platforms'], number>();
  const tags: ListingState['tags'] = [];
  for (const name of table.names) {
    const { digest, pushedAt, locked, platforms } = table.get(name) ?? {};
    if (platforms !== undefined && !places.has(platforms)) places.set(platforms, places.size);
    const marks = (locked === true ? lockedMark : 0) | (table.isSure(name) ? sureMark : 0);
    tags.push([name, digest ?? null, pushedAt ?? null, marks, places.get(platforms) ?? null]);
  }
  return { platforms: [...places.keys()].map((platforms) => [...(platforms ?? [])]), tags };
}

/** The entries, each with whether the registry itself told its digest. */
export function* unpack({ tags, platforms }: ListingState): Generator<[TagEntry, boolean]> {
  for (const [name, digest, pushedAt, marks, place] of tags) {
    const entry: TagEntry = {
      name,
      digest: (digest ?? undefined) as TagEntry['digest'],
      pushedAt: pushedAt ?? undefined,
      locked: (marks & lockedMark) !== 0,
      platforms: place === null ? undefined : platforms[place],
    };
    yield [entry, (marks & sureMark) !== 0];
  }
}
