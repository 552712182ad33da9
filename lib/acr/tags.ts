/** `/acr/v1`: tags with digests and locks, and deletes, by the Azure SDK over the registry's own transport. */
import { type ArtifactTagProperties, ContainerRegistryClient } from '@azure/container-registry';
import { createHttpHeaders, type HttpClient } from '@azure/core-rest-pipeline';
import { HubferryError } from '../errors.ts';
import { isDigest } from '../oci/digest.ts';
import { isTag } from '../oci/reference.ts';
import type { CallOptions, Observer, TagEntry, TagPage } from '../oci/roles.ts';
import { failureOf, isRecord, parseJson, protocolFailure } from '../registry/failure.ts';
import { formatCursor, nextPage, type PageCursor, parseCursor } from '../registry/paging.ts';
import type { TransportRequest, TransportResponse } from '../registry/send.ts';
import type { Transport } from '../registry/transport.ts';

/** The most that ACR gives (Azure/acr issue 749). */
const tagsPerPage = 1000;
/** A thousand tags are below 1 MiB. */
const maxAnswer = 8 * 1024 * 1024;
/** The SDK insists on TLS and on a host; neither is its business here. */
const anywhere = 'https://registry.invalid';

export interface TagServiceOptions {
  readonly transport: Transport;
  readonly path: string;
  readonly observer: Observer | undefined;
}

/** Sends what the SDK asks for, and judges the answer. */
type Exchange = (request: Pick<TransportRequest, 'method' | 'url'>) => Promise<Judged>;

interface Judged {
  readonly answer: TransportResponse;
  readonly text: string;
}

export class TagService {
  readonly #options: TagServiceOptions;

  constructor(options: TagServiceOptions) {
    this.#options = options;
  }

  /** One page of tags. @throws ERR_NOT_FOUND for an unknown repository */
  async list(cursor: string | undefined, { signal }: CallOptions): Promise<TagPage> {
    const page = this.#pageAt(cursor);
    let answer: TransportResponse | undefined;
    const client = this.#client(async (request) => {
      answer = await this.#send(request, 'metadata_read', signal);
      if (answer.status !== 200) throw failureOf(`${this.#options.path} does not list its tags`, answer);
      const bytes = await answer.body.bytes(maxAnswer);
      // The SDK takes for an empty listing whatever is not one.
      if (!isListing(parseJson(bytes))) throw protocolFailure('The registry gives no list of tags', answer);
      return { answer, text: Buffer.from(bytes).toString() };
    });
    const tags = await firstPage(client, this.#options.path, page);
    const next = answer === undefined ? undefined : nextPage(page, answer);
    return { tags: tags.map(entryOf).filter((entry) => entry !== undefined), ...cursorAt(next) };
  }

  /** @throws ERR_LOCKED */
  async delete(tag: string, { signal }: CallOptions): Promise<void> {
    const client = this.#client(async (request) => {
      const answer = await this.#send(request, 'delete', signal);
      if (answer.status < 400 || answer.status === 404) return { answer, text: '' };
      const locked = answer.faults.some(({ code }) => code === 'REGISTRY_DISALLOWED_OPERATION');
      const what = `${this.#options.path} does not delete the tag ${tag}`;
      throw failureOf(what, answer, locked ? { code: 'ERR_LOCKED' } : {});
    });
    await translated(() => client.getArtifact(this.#options.path, tag).deleteTag(tag));
  }

  #pageAt(cursor: string | undefined): PageCursor {
    const { transport, path } = this.#options;
    const first = `${transport.endpoint()}/acr/v1/${encodeURIComponent(path)}/_tags`;
    return cursor === undefined
      ? { url: first, pages: 0, mark: first }
      : parseCursor(cursor, new URL(first).origin);
  }

  #send(
    request: Pick<TransportRequest, 'method' | 'url'>,
    action: string,
    signal: AbortSignal | undefined,
  ): Promise<TransportResponse> {
    const { transport, path, observer } = this.#options;
    return transport.send({
      ...request,
      headers: { accept: 'application/json' },
      scopes: [`repository:${path}:${action}`],
      limit: maxAnswer,
      idempotent: true,
      observer,
      signal,
    });
  }

  /** An SDK client that neither logs in nor retries: the transport does, with everything that holds for it. */
  #client(exchange: Exchange): ContainerRegistryClient {
    const { origin, pathname } = new URL(this.#options.transport.endpoint());
    const httpClient: HttpClient = {
      async sendRequest(request) {
        const { href } = new URL(request.url);
        const method = request.method === 'DELETE' ? 'DELETE' : 'GET';
        const { answer, text } = await exchange({ method, url: href.replace(anywhere, origin) });
        const headers = createHttpHeaders(flat(answer.headers));
        return { request, status: answer.status, headers, bodyAsText: text };
      },
    };
    const endpoint = anywhere + pathname.replace(/\/$/, '');
    return new ContainerRegistryClient(endpoint, { httpClient, retryOptions: { maxRetries: 0 } });
  }
}

/** The SDK lists the tags of an artifact, whichever it is: those of the whole repository. */
async function firstPage(
  client: ContainerRegistryClient,
  path: string,
  { url, pages }: PageCursor,
): Promise<readonly ArtifactTagProperties[]> {
  const { pathname, search } = new URL(url);
  const settings = pages === 0 ? { maxPageSize: tagsPerPage } : { continuationToken: pathname + search };
  const listing = client.getArtifact(path, 'any').listTagProperties().byPage(settings);
  const { value } = await translated(() => listing.next());
  return value ?? [];
}

/** An empty listing may lack its tags, but says whose they are. */
function isListing(body: unknown): boolean {
  return (
    isRecord(body) && (Array.isArray(body.tags) || (body.tags == null && typeof body.imageName === 'string'))
  );
}

function entryOf({ name, digest, canWrite }: ArtifactTagProperties): TagEntry | undefined {
  // The SDK hands on what was sent, whatever its types say.
  if (typeof name !== 'string' || !isTag(name)) return undefined;
  return {
    name,
    digest: typeof digest === 'string' && isDigest(digest) ? digest : undefined,
    locked: canWrite === false,
  };
}

function cursorAt(next: PageCursor | undefined): { next?: string } {
  return next === undefined ? {} : { next: formatCursor(next) };
}

function flat(headers: TransportResponse['headers']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, [value].flat().join(', ')]),
  );
}

/** What the SDK does not understand is no answer of ACR. */
async function translated<Value>(call: () => Promise<Value>): Promise<Value> {
  try {
    return await call();
  } catch (cause) {
    if (cause instanceof HubferryError || !(cause instanceof Error) || cause.name !== 'RestError')
      throw cause;
    throw new HubferryError('ERR_PROTOCOL', 'The registry answered something else than /acr/v1 does', {
      cause,
    });
  }
}
