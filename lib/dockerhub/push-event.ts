/** What Docker Hub posts for a push (docs.docker.com "Docker Hub webhooks"). It has neither digest nor signature: it is a hint. */
import * as z from 'zod';
import { codeOf, HubferryError } from '../errors.ts';
import { isTag, parseRepository } from '../oci/reference.ts';

export interface PushEvent {
  /** Path at Docker Hub: `library/nginx`. */
  readonly repository: string;
  readonly tag: string;
  /** Milliseconds since the epoch, as the event has it; `undefined` where it has none. */
  readonly pushedAt: number | undefined;
}

/** Real ones are below 4 KiB, most of it a description. */
export const maxPushEventBytes = 64 * 1024;

/** The parts in use. `callback_url` is dead, and anyone could name a host there: it is not even read. */
const pushEventSchema = z.object({
  push_data: z.object({
    tag: z.string().refine(isTag, 'not a tag'),
    // In seconds; some were written as floats (1.417566161e+09).
    pushed_at: z.number().positive().max(1e11).nullish(),
  }),
  repository: z.object({ repo_name: z.string().max(300) }),
});

/** Reads the body of a push event. @throws ERR_REQUEST_INVALID */
export function parsePushEvent(body: string): PushEvent {
  if (Buffer.byteLength(body) > maxPushEventBytes) {
    throw malformed(`it is larger than ${maxPushEventBytes} bytes`);
  }
  const parsed = pushEventSchema.safeParse(parseJson(body));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw malformed(`${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'not understood'}`);
  }
  const { push_data: push, repository } = parsed.data;
  return {
    repository: pathOf(repository.repo_name),
    tag: push.tag,
    pushedAt: push.pushed_at == null ? undefined : Math.round(push.pushed_at * 1000),
  };
}

function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    // The parser's own message quotes what anybody may have posted.
    throw malformed('it is no JSON');
  }
}

/** The name is Docker Hub's, whatever it looks like: `localhost/x` is a namespace of somebody. */
function pathOf(name: string): string {
  try {
    return parseRepository(`docker.io/${name}`).path;
  } catch (error) {
    throw codeOf(error) === 'ERR_REFERENCE' ? malformed('repository.repo_name: not a repository') : error;
  }
}

function malformed(what: string): HubferryError {
  return new HubferryError('ERR_REQUEST_INVALID', `This is no push event of Docker Hub: ${what}.`);
}
