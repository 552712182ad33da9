/** Carries out requests, and derives what a platform filter makes of a digest. */
import type { Rule } from '../../config/model.ts';
import type { Digest } from '../../oci/descriptor.ts';
import type { CopyRequest } from '../request.ts';
import type { OnEvent } from '../runs/events.ts';
import type { Line, SyncOutcome } from '../runs/report.ts';
import { Tally } from '../runs/tally.ts';
import { deriveCargo, derivedIn } from './cargo.ts';
import { Carriage, type Carriers } from './carriage.ts';
import type { Derived } from './facts.ts';
import { passageOf } from './graph.ts';
import { goneReason, whyKept } from './kept.ts';
import { type CopyResult, isRetryable, outcomeOf, type TagPair } from './outcome.ts';
import type { Sides } from './sides.ts';
import type { Pulls, Work } from './work.ts';

export interface Deriving {
  readonly rule: Rule;
  readonly sides: Sides;
  readonly pulls: Pulls;
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
}

/** Derives the index of a digest, where no memory tells what the rule's platforms make of it, and remembers it. */
export type Derive = (digest: Digest, input: Deriving) => Promise<Derived>;

export class Copier {
  readonly #carriers: Carriers;

  constructor(carriers: Carriers) {
    this.#carriers = carriers;
  }

  /**
   * Carries out a copy request. What goes wrong with a tag becomes its line; only a stop (`StoppedError`) and another
   * request at work on the same blob (`BusyError`) are thrown: the same request is then to be delivered again.
   */
  async copy(request: CopyRequest, rule: Rule, sides: Sides, work: Work): Promise<CopyResult> {
    return new Carriage(request, rule, sides, work, this.#carriers).run();
  }

  /** What a platform filter makes of a digest: read, derived and remembered. */
  async derive(...[digest, input]: Parameters<Derive>): Promise<Derived> {
    const { rule, sides, pulls, signal, onEvent } = input;
    const from = await sides.source.resolve(digest, { signal });
    if (from === undefined) return 'skip';
    const work: Work = {
      stop: signal,
      end: signal,
      tally: new Tally(),
      onEvent,
      patienceMs: 0,
      ...pulls,
    };
    const { graph, facts } = this.#carriers;
    const passage = passageOf(sides, work);
    return derivedIn(await deriveCargo(from, rule.platforms, passage, graph, facts));
  }

  /**
   * Deletes one target tag that came from this source, if the source answers at this moment that it has no such tag. Any
   * other answer means keep.
   */
  async remove(request: CopyRequest, rule: Rule, sides: Sides, work: Work): Promise<CopyResult> {
    const startedAt = Date.now();
    const [pair] = request.tags;
    const end = (outcome: SyncOutcome, facts: Pick<Line, 'reason' | 'error' | 'until'> = {}): CopyResult => ({
      lines: [
        {
          rule: rule.name,
          source: `${sides.source.name}:${pair?.source ?? ''}`,
          target: `${sides.target.name}:${pair?.target ?? ''}`,
          ...(request.digest === undefined ? {} : { digest: request.digest }),
          outcome,
          ...facts,
          startedAt: new Date(startedAt).toISOString(),
          durationMs: Date.now() - startedAt,
        },
      ],
    });
    if (pair === undefined || !rule.prune) return end('skipped', { reason: 'the rule no longer prunes' });
    try {
      return end(...(await this.#removeTag(pair, rule, sides, work)));
    } catch (error) {
      if (work.stop.aborted) throw work.stop.reason;
      return { ...end(...outcomeOf(error)), ...(isRetryable(error) ? { retry: error } : {}) };
    }
  }

  async #removeTag(
    pair: TagPair,
    rule: Rule,
    sides: Sides,
    work: Work,
  ): Promise<[SyncOutcome, { reason: string }]> {
    const { source, target } = sides;
    const signal = work.stop;
    return this.#carriers.locks.hold(`${target.name}:${pair.target}`, signal, async (hold) => {
      const claims = await work.claims?.();
      const other = claims?.rival(pair.target) ?? claims?.suspect(pair.target) ?? claims?.keeper(pair.target);
      if (other !== undefined) return ['skipped', { reason: `the rule "${other}" wants it` }];
      const reason = await whyKept(pair, rule, sides, this.#carriers.facts, signal);
      if (reason !== undefined) return ['skipped', { reason }];
      await hold.moves();
      await target.deleteTag(pair.target, { signal });
      await this.#carriers.facts.forgetMirrored(source.name, target.name, pair.target);
      return ['deleted', { reason: goneReason }];
    });
  }
}
