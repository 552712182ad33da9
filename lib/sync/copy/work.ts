/** What one request has copied: where it counts, whom it tells, and when it has to stop. */
import { HubferryError, PullLimitError } from '../../errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { SendOptions, Source } from '../../oci/roles.ts';
import type { OnEvent } from '../runs/events.ts';
import type { Tally } from '../runs/tally.ts';
import type { Admission } from './allowance.ts';

/** Who asks for manifests at a source that bills them as pulls. */
export interface Pulls {
  /** Asked before each manifest that is read at a billing source; a short wait is kept here. @throws ERR_RATE_LIMITED */
  readonly admitPull: () => Promise<Admission>;
  /** Pulls that are left to others: who leaves as many is admitted, or not, as this one is. */
  readonly reserve: number;
}

/** What the other rules want of one target repository; each answer is a rule's name. */
export interface Claims {
  /** Who wants something else at a tag. */
  rival(tag: string): string | undefined;
  /** Who may want something else there: its source could not be listed. */
  suspect(tag: string): string | undefined;
  /**
   * Who keeps a tag that is gone at the source: it wants the same there, or it is a namespace to which such a repository, if
   * it has one, is denied. That one is a suspect only of tags that it has filled.
   */
  keeper(tag: string): string | undefined;
}

/** One piece of work on behalf of one request: where it counts, whom it tells, when it has to stop. */
export interface Work extends Pulls {
  /** Aborted with a `StoppedError`: finish the chunk under way, save, and throw the reason. */
  readonly stop: AbortSignal;
  /** Follows `stop` after a while: what is still on its way to the target is broken off. */
  readonly end: AbortSignal;
  readonly tally: Tally;
  /** What is sent for one request, or for one of its tags: a tally may be shared by many. */
  readonly sent?: { bytes: number };
  readonly onEvent: OnEvent;
  /**
   * How long to wait for another request that is sending the same blob, in milliseconds, before giving this one back.
   * The command line waits as long as it takes.
   */
  readonly patienceMs: number;
  /** Whether it leaves places and memory to those who do not: a copy, so that no push waits behind it. @default false */
  readonly yields?: boolean;
  /** Whether an attempt before this one came to no end: then also a small blob goes in parts where time is short for all of it. */
  readonly again?: boolean;
  /** Asked before a tag moves. @throws StoppedError where nobody wants it any more */
  readonly stillWanted?: (() => Promise<void>) | undefined;
  /** What other rules want of the target's tags now. Absent where a plan has just asked. */
  readonly claims?: (() => Promise<Claims>) | undefined;
}

/** Counts payload that the target has taken. */
export function countSent({ tally, sent }: Work, bytes: number): void {
  tally.bytesCopied += bytes;
  if (sent !== undefined) sent.bytes += bytes;
}

/**
 * Pulls a manifest, once it is admitted where the source bills that.
 * @throws ERR_RATE_LIMITED with the time before which nobody pulls
 */
export async function pulling<T>(
  { billed = false }: Pick<Source, 'billed'>,
  { admitPull }: Pulls,
  pull: () => Promise<T>,
): Promise<T> {
  if (!billed) return pull();
  using admission = await admitPull();
  try {
    const pulled = await pull();
    admission.answered();
    return pulled;
  } catch (error) {
    throw error instanceof PullLimitError ? await admission.refused(error.retryAt) : error;
  }
}

/** For what costs something when it is interrupted, such as an upload session: it goes on for a while, but begins nothing any more. */
export function unstopped({ end, stop }: Pick<Work, 'end' | 'stop'>): SendOptions {
  return { signal: end, whileUnsent: stop };
}

/** Another request is sending the same blob: this one is given back and comes again. */
export class BusyError extends HubferryError {
  override readonly name = 'BusyError';
  /** Of the blob, in bytes. */
  readonly size: number;

  constructor({ digest, size }: Descriptor) {
    super('ERR_INTERRUPTED', `Another request is sending ${digest}`, { retryable: true });
    this.size = size;
  }
}
