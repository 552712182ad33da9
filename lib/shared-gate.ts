/** What a registry asks for by `Retry-After`, or by refusing, kept by every instance of the function app. */
import { systemClock } from './registry/clock.ts';
import { createHostGate, type HostGate, type HostGateOptions, type Traffic } from './registry/gate.ts';
import type { DocumentStore } from './storage/ports.ts';
import { postpone, readTime } from './sync/shared-time.ts';

/** How long what storage said is believed, in milliseconds. */
const believedMs = 5000;
/** A shorter wait is over before another instance hears of it. */
const worthTellingMs = 1000;

/** A look at what storage says of a host. */
interface Look {
  /** When it began, in milliseconds since the epoch. */
  readonly at: number;
  readonly done: Promise<void>;
}

/** The gate of this process, which hears of the others' through storage, and tells them of its own. */
export function createSharedGate(store: DocumentStore, options: HostGateOptions = {}): HostGate {
  const { clock = systemClock } = options;
  const own = createHostGate(options);
  const looks = new Map<string, Look>();

  const look = async (host: string, traffic: Traffic): Promise<void> => {
    const until = await readTime(store, keyOf(host, traffic));
    if (until > clock.now()) own.close(host, until, traffic);
  };
  /** Whoever comes while storage is asked waits for its answer too: nothing slips past what nobody here knows yet. */
  const learn = (host: string, traffic: Traffic): Promise<void> => {
    const key = keyOf(host, traffic);
    const last = looks.get(key);
    if (last !== undefined && clock.now() - last.at < believedMs) return last.done;
    const done = look(host, traffic);
    looks.set(key, { at: clock.now(), done });
    return done;
  };
  // Storage that fails must not stop what needs no storage: the registry still says no by itself.
  const tell = async (host: string, until: number, traffic: Traffic): Promise<void> => {
    if (until - clock.now() >= worthTellingMs) await postpone(store, keyOf(host, traffic), until);
  };

  return {
    async wait(host, wait) {
      const all: Traffic[] = wait.traffic === 'pulls' ? ['everything', 'pulls'] : ['everything'];
      // Another instance may have been told a longer wait meanwhile.
      for (let knownAt = Number.NEGATIVE_INFINITY; clock.now() - knownAt >= believedMs; ) {
        await Promise.allSettled(all.map((traffic) => learn(host, traffic)));
        knownAt = clock.now();
        await own.wait(host, wait);
      }
    },
    close(host, until, traffic = 'everything') {
      own.close(host, until, traffic);
      tell(host, until, traffic).catch(() => undefined);
    },
    refuse(host, sentAt) {
      const until = own.refuse(host, sentAt);
      tell(host, until, 'everything').catch(() => undefined);
      return until;
    },
    served: (host) => own.served(host),
  };
}

function keyOf(host: string, traffic: Traffic): string {
  return `hosts/${host}/${traffic}`;
}
