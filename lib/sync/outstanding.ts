/** At most one request is outstanding for a rule, target repository and digest; a later plan joins it. */
import { createHash } from 'node:crypto';
import type { DocumentStore } from '../storage/ports.ts';
import type { CopyRequest } from './request.ts';

/** A mark that nobody took away for so long is of a message that was lost. */
const believedMs = 24 * 3600_000;

export class Outstanding {
  readonly #store: DocumentStore;

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  /** True where the request is to be sent: nobody has asked for the same, or it was this very run. */
  async claim(request: CopyRequest): Promise<boolean> {
    const key = keyOf(request);
    const mark = Buffer.from(JSON.stringify({ run: request.run, at: Date.now() }));
    if ((await this.#store.put(key, mark, { ifAbsent: true })) !== undefined) return true;
    const document = await this.#store.get(key);
    if (document === undefined) return true;
    const { run, at } = JSON.parse(Buffer.from(document.bytes).toString()) as { run: string; at: number };
    if (run === request.run) return true;
    if (Date.now() - at < believedMs) return false;
    return (await this.#store.put(key, mark, { ifMatch: document.etag })) !== undefined;
  }

  async end(request: CopyRequest): Promise<void> {
    await this.#store.delete(keyOf(request));
  }
}

/** A push does not know its digest: it is told by its tags. */
function keyOf({ kind, rule, target, digest, tags }: CopyRequest): string {
  const what = digest ?? tags.map((tag) => tag.target).join(',');
  const which = kind === 'delete' ? `${what}\n${tags[0]?.target}` : what;
  return `outstanding/${createHash('sha256').update(`${kind}\n${rule}\n${target}\n${which}`).digest('hex')}`;
}
