/** Upload sessions (distribution-spec v1.1 "Pushing Blobs"), with the rules by which real registries lose them. */
import { createHash, randomBytes } from 'node:crypto';
import type { OutgoingHttpHeaders } from 'node:http';
import type { Digest } from '../../lib/oci/descriptor.ts';
import { notAllowed, replyError } from './answers.ts';
import { type Behaviour, digestPattern } from './behaviour.ts';
import { type Answer, type Exchange, reply } from './server.ts';
import type { LocalRepository, LocalStore, Upload } from './store.ts';
import { type Guard, repositoryScope } from './tokens.ts';

/** `/v2/<name>/blobs/uploads/`, for clients that may push to the repository. */
export class UploadApi {
  readonly #store: LocalStore;
  readonly #guard: Guard;
  readonly #behaviour: Behaviour;
  readonly #stateKey = randomBytes(16);

  constructor(store: LocalStore, guard: Guard, behaviour: Behaviour) {
    this.#store = store;
    this.#guard = guard;
    this.#behaviour = behaviour;
  }

  start(exchange: Exchange, repository: LocalRepository): Answer {
    const mounted = this.#mount(exchange, repository);
    if (mounted !== undefined) return mounted;
    if (exchange.contentLength !== 0)
      return replyError(400, 'UNSUPPORTED', 'a session starts with an empty body');
    const upload = this.#store.startUpload(repository);
    const { minChunk } = this.#behaviour;
    return reply(202, {
      ...this.#whereItStands(exchange, upload),
      ...(minChunk !== undefined && { 'oci-chunk-min-length': minChunk }),
    });
  }

  async respond(exchange: Exchange, repository: LocalRepository, id: string): Promise<Answer | undefined> {
    const upload = this.#store.uploads.get(id);
    if (upload === undefined || upload.repository !== repository) {
      return replyError(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
    }
    // While a request writes nobody has the newest Location.
    if (this.#behaviour.signedLocations && exchange.query('_state') !== this.#state(upload)) {
      return replyError(404, 'BLOB_UPLOAD_INVALID', 'blob upload invalid');
    }
    switch (exchange.method) {
      case 'GET':
        return reply(204, this.#whereItStands(exchange, upload));
      case 'PATCH':
        return this.#append(exchange, upload);
      case 'PUT':
        return this.#finish(exchange, upload);
      case 'DELETE':
        await this.#cancel(upload);
        return reply(204);
      default:
        return notAllowed();
    }
  }

  /** Mounts where asked to and possible; else the client gets a session. */
  #mount(exchange: Exchange, repository: LocalRepository): Answer | undefined {
    const digest = exchange.query('mount') as Digest | undefined;
    const from = exchange.query('from');
    if (digest === undefined || from === undefined || !this.#behaviour.mounts) return undefined;
    if (!this.#guard.allows(exchange, repositoryScope(from, 'pull'))) return undefined;
    const blob = this.#store.repositories.get(from)?.blobs.get(digest);
    if (blob === undefined) return undefined;
    repository.putBlob(digest, blob);
    return this.#created(exchange, repository, digest);
  }

  async #append(exchange: Exchange, upload: Upload): Promise<Answer | undefined> {
    const refusal = this.#refusalOfBody(exchange, upload) ?? this.#refusalOfRange(exchange, upload);
    if (refusal !== undefined) return refusal;
    const before = upload.offset;
    if (!(await this.#receive(exchange, upload))) return undefined;
    upload.lastChunk = upload.offset - before;
    return reply(202, this.#whereItStands(exchange, upload));
  }

  async #finish(exchange: Exchange, upload: Upload): Promise<Answer | undefined> {
    const digest = (exchange.query('digest') ?? '') as Digest;
    if (!digestPattern.test(digest)) return replyError(400, 'DIGEST_INVALID', 'invalid digest');
    if (exchange.contentLength !== 0) {
      const refusal = this.#refusalOfBody(exchange, upload);
      if (refusal !== undefined) return refusal;
      if (!(await this.#receive(exchange, upload))) return undefined;
    }
    const blob = await upload.finish(digest);
    if (blob === undefined) {
      await this.#cancel(upload);
      return replyError(400, 'DIGEST_INVALID', 'digest does not match');
    }
    this.#store.uploads.delete(upload.id);
    upload.repository.putBlob(digest, blob);
    return this.#created(exchange, upload.repository, digest);
  }

  #refusalOfBody(exchange: Exchange, upload: Upload): Answer | undefined {
    const { bodyLimit, contentLengthRequired, minChunk } = this.#behaviour;
    const length = exchange.contentLength;
    if (length === undefined && contentLengthRequired) {
      return replyError(400, 'CONTENT_LENGTH_INVALID', 'Content-Length is required');
    }
    if (length !== undefined && bodyLimit !== undefined && length > bodyLimit) {
      return replyError(413, 'SIZE_INVALID', 'request entity too large');
    }
    if (minChunk !== undefined && upload.lastChunk !== undefined && upload.lastChunk < minChunk) {
      return replyError(400, 'SIZE_INVALID', `only the last chunk may be shorter than ${minChunk} bytes`);
    }
    return undefined;
  }

  /** `^[0-9]+-[0-9]+$`, in order, of the body's length. */
  #refusalOfRange(exchange: Exchange, upload: Upload): Answer | undefined {
    const range = exchange.headers['content-range'];
    if (range === undefined) return undefined;
    const [, start, end] = /^([0-9]+)-([0-9]+)$/.exec(range) ?? [];
    if (start === undefined || end === undefined) {
      return replyError(400, 'BLOB_UPLOAD_INVALID', 'Content-Range header format is invalid');
    }
    const length = exchange.contentLength;
    const fits = length === undefined || Number(end) - Number(start) + 1 === length;
    if (Number(start) === upload.offset && fits) return undefined;
    return replyError(416, 'RANGE_INVALID', 'chunk out of order', this.#whereItStands(exchange, upload));
  }

  /** Takes a body into the session. One that breaks off takes the session with it, as `docker-registry` does. */
  async #receive(exchange: Exchange, upload: Upload): Promise<boolean> {
    upload.generation += 1;
    try {
      for await (const chunk of exchange.body()) await upload.append(chunk);
      return true;
    } catch {
      await this.#cancel(upload);
      return false;
    }
  }

  async #cancel(upload: Upload): Promise<void> {
    this.#store.uploads.delete(upload.id);
    await upload.discard();
  }

  #created(exchange: Exchange, repository: LocalRepository, digest: Digest): Answer {
    return reply(201, {
      location: this.#locate(exchange, `/v2/${repository.name}/blobs/${digest}`),
      'docker-content-digest': digest,
    });
  }

  #whereItStands(exchange: Exchange, upload: Upload): OutgoingHttpHeaders {
    const path = `/v2/${upload.repository.name}/blobs/uploads/${upload.id}`;
    return {
      location: this.#locate(exchange, `${path}?_nouploadcache=false&_state=${this.#state(upload)}`),
      range: `0-${Math.max(0, upload.offset - 1)}`,
      'docker-upload-uuid': upload.id,
    };
  }

  /** Changes with every request that wrote, so that only the newest Location is good. */
  #state(upload: Upload): string {
    const hash = createHash('sha512').update(this.#stateKey);
    return hash.update(`${upload.id} ${upload.generation} ${upload.offset}`).digest('base64url');
  }

  #locate(exchange: Exchange, path: string): string {
    return this.#behaviour.relativeLocations ? path : `${exchange.origin}${path}`;
  }
}
