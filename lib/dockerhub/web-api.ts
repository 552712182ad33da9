/**
 * Docker Hub's web API (docs.docker.com "Docker HUB API"): the tags of a repository a hundred at a time, with push times
 * and, undocumented and therefore only as hints, digests; and the repositories of a namespace.
 */
import * as z from 'zod';
import type { Platform } from '../oci/descriptor.ts';
import { isDigest } from '../oci/digest.ts';
import { isRepositoryName, isTag } from '../oci/reference.ts';
import type { CallOptions, Observer, TagEntry, TagPage } from '../oci/roles.ts';
import { failureOf, parseJson, protocolFailure } from '../registry/failure.ts';
import { parseDecimal } from '../registry/headers.ts';
import { advance, formatCursor, type PageCursor, parseCursor } from '../registry/paging.ts';
import type { TransportResponse } from '../registry/send.ts';
import type { Transport } from '../registry/transport.ts';

export interface WebApiRequest extends CallOptions {
  readonly observer?: Observer | undefined;
}

export interface WebApiListRequest extends WebApiRequest {
  /** `next` of an earlier page. */
  readonly cursor?: string | undefined;
}

const pageSize = 100;
/** A hundred tags of thirty platforms each are below 2 MiB. */
const maxAnswer = 8 * 1024 * 1024;

/** What is not understood of one tag is left out; it does not make the others unreadable. */
const text = z.string().nullish().catch(undefined);
const imageSchema = z.object({ os: text, architecture: text, variant: text, os_version: text });
type Image = z.infer<typeof imageSchema>;
const tagSchema = z.object({
  name: z.string(),
  digest: text,
  tag_last_pushed: text,
  last_updated: text,
  images: z.array(imageSchema).nullish().catch(undefined),
});
const repositorySchema = z.object({ name: z.string() });
type Tag = z.infer<typeof tagSchema>;

interface Page {
  readonly results: readonly unknown[];
  readonly next?: string | null | undefined;
  readonly count?: number | null | undefined;
}

function pageSchema<Item extends z.ZodType>(item: Item) {
  return z.object({
    results: z.array(item).max(10 * pageSize),
    next: z.string().nullish(),
    count: z.number().nullish(),
  });
}

const countSchema = z.object({ count: z.number().nullish() });
const tagPageSchema = pageSchema(tagSchema);
const repositoryPageSchema = pageSchema(repositorySchema);

/** Where a listing stands. */
interface Place {
  readonly page: PageCursor;
  /** Entries of the pages before. */
  readonly seen: number;
}

export class WebApi {
  readonly #transport: Transport;
  readonly #platforms = new SharedPlatforms();

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** One page of tags, in the order of their names; `undefined` where there is no such repository. */
  async listTags(path: string, request: WebApiListRequest = {}): Promise<TagPage | undefined> {
    const { cursor } = request;
    const first = this.#start(tagsPath(path), 'name');
    const place = cursor === undefined ? first : this.#resume(cursor);
    const response = await this.#get(place.page.url, request);
    if (response.status === 404 && cursor === undefined) return undefined;
    if (response.status === 404) {
      await this.#proveEnd(place, first, request);
      return { tags: [] };
    }
    const content = await read(tagPageSchema, response);
    const tags = content.results.filter(({ name }) => isTag(name)).map((tag) => this.#entry(tag));
    const next = nextPlace(place, content, response);
    return { tags, ...(next === undefined ? {} : { next: `${next.seen} ${formatCursor(next.page)}` }) };
  }

  /** One tag as a listing would show it; `undefined` where there is none. */
  async describeTag(path: string, tag: string, request: WebApiRequest = {}): Promise<TagEntry | undefined> {
    const response = await this.#get(`${tagsPath(path)}/${encodeURIComponent(tag)}`, request);
    return response.status === 404 ? undefined : this.#entry(await read(tagSchema, response));
  }

  /** The names of a namespace's repositories that the login may see, without the namespace. */
  async *listRepositories(namespace: string, request: WebApiRequest = {}): AsyncGenerator<string> {
    const first = this.#start(`/v2/namespaces/${encodeURIComponent(namespace)}/repositories`);
    let place: Place | undefined = first;
    while (place !== undefined) {
      const response = await this.#get(place.page.url, request);
      if (response.status === 404 && place !== first) return this.#proveEnd(place, first, request);
      if (response.status === 404) throw failureOf(`Docker Hub has no namespace ${namespace}`, response);
      const content: z.infer<typeof repositoryPageSchema> = await read(repositoryPageSchema, response);
      for (const { name } of content.results) {
        if (!name.includes('/') && isRepositoryName(`docker.io/${namespace}/${name}`)) yield name;
      }
      place = nextPlace(place, content, response);
    }
  }

  /**
   * The last page can be gone by the time it is asked for: then the first one counts no more than was seen.
   * @throws ERR_LISTING_INCOMPLETE where it does
   */
  async #proveEnd({ seen }: Place, first: Place, request: WebApiRequest): Promise<void> {
    const response = await this.#get(first.page.url, request);
    const { count } = response.status === 404 ? {} : await read(countSchema, response);
    if (count != null && count <= seen) return;
    const what = `The page after the first ${seen} of ${count ?? 'unknown'} entries is missing`;
    throw failureOf(what, response, { code: 'ERR_LISTING_INCOMPLETE' });
  }

  #start(path: string, ordering?: string): Place {
    const query = `?page_size=${pageSize}${ordering === undefined ? '' : `&ordering=${ordering}`}`;
    const url = this.#transport.endpoint() + path + query;
    return { page: { url, pages: 0, mark: url }, seen: 0 };
  }

  #resume(cursor: string): Place {
    const [seen = ''] = cursor.split(' ', 1);
    const page = parseCursor(cursor.slice(seen.length + 1), new URL(this.#transport.endpoint()).origin);
    return { page, seen: parseDecimal(seen) ?? 0 };
  }

  /** @throws for every answer but 200 and 404 */
  async #get(url: string, { observer, signal }: WebApiRequest): Promise<TransportResponse> {
    const headers = { accept: 'application/json' };
    const response = await this.#transport.send({
      method: 'GET',
      url,
      headers,
      limit: maxAnswer,
      observer,
      signal,
    });
    if (response.status === 200 || response.status === 404) return response;
    throw failureOf("Docker Hub's web API does not answer", response);
  }

  #entry(tag: Tag): TagEntry {
    const pushedAt = Date.parse(tag.tag_last_pushed ?? tag.last_updated ?? '');
    return {
      name: tag.name,
      digest: isDigest(tag.digest ?? '') ? (tag.digest as TagEntry['digest']) : undefined,
      pushedAt: Number.isNaN(pushedAt) ? undefined : pushedAt,
      platforms: this.#platforms.of(tag.images ?? []),
    };
  }
}

function tagsPath(path: string): string {
  const [namespace = '', name = ''] = path.split('/');
  return `/v2/namespaces/${namespace}/repositories/${name}/tags`;
}

async function read<Content>(schema: z.ZodType<Content>, response: TransportResponse): Promise<Content> {
  const parsed = schema.safeParse(parseJson(await response.body.bytes(maxAnswer)));
  if (parsed.success) return parsed.data;
  throw protocolFailure("Docker Hub's web API answered something else", response);
}

/**
 * Where the listing goes on. Of `next` only the query counts: whom to ask is nothing that an answer decides.
 * @throws ERR_LISTING_INCOMPLETE where the listing goes round in circles, or ends a page or more before what it counts.
 */
function nextPlace(place: Place, content: Page, response: TransportResponse): Place | undefined {
  const { results, next, count } = content;
  const seen = place.seen + results.length;
  if (next == null || next === '') {
    // The count need not be exact to the last entry; a whole page is no inexactness.
    if (count == null || count - seen < pageSize) return undefined;
    const what = `The listing ends after ${seen} of ${count}`;
    throw failureOf(what, response, { code: 'ERR_LISTING_INCOMPLETE' });
  }
  const url = new URL(place.page.url);
  if (!URL.canParse(next, url)) throw protocolFailure('The next page is no URL', response);
  url.search = new URL(next, url).search;
  return { page: advance(place.page, url, response), seen };
}

const maxShared = 5000;

/** A hundred thousand tags offer a handful of platform sets: each is held once. */
class SharedPlatforms {
  readonly #known = new Map<string, readonly Platform[]>();

  /** `undefined` where something is of no known platform: it may be an index with platforms of its own. */
  of(images: readonly Image[]): readonly Platform[] | undefined {
    if (images.some(({ os, architecture }) => !os || !architecture)) return undefined;
    const key = JSON.stringify(images);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const platforms = images.map(platformOf).filter((platform) => platform !== undefined);
    if (this.#known.size < maxShared) this.#known.set(key, platforms);
    return platforms;
  }
}

/** `undefined` for an attestation, which is of no platform. */
function platformOf(image: Image): Platform | undefined {
  const { os, architecture, variant, os_version: osVersion } = image;
  if (!os || !architecture || os === 'unknown' || architecture === 'unknown') return undefined;
  return { os, architecture, ...(variant && { variant }), ...(osVersion && { 'os.version': osVersion }) };
}
