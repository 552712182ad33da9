/** Compares source and target, down to every manifest and blob; pulls nothing that is billed where a memory spares it. */
import { HubferryError, summarize } from '../errors.ts';
import type { Descriptor, Digest } from '../oci/descriptor.ts';
import { isForeign, maxDepth, parseManifest } from '../oci/manifest.ts';
import { isReferrerTag } from '../oci/reference.ts';
import type { Target } from '../oci/roles.ts';
import { forEachOf, SingleFlight } from './concurrency.ts';
import type { PlanLine } from './fan-out.ts';
import type { Limits } from './limits.ts';
import { nameOf, TagNames } from './names.ts';
import type { PlanInput, Planner } from './planner.ts';
import type { Line, VerifyFinding } from './report.ts';
import { matchesNames } from './select.ts';

export type VerifyLine = Line<VerifyFinding>;

export class Verifier {
  readonly #planner: Planner;
  readonly #limits: Limits;

  constructor(planner: Planner, limits: Limits) {
    this.#planner = planner;
    this.#limits = limits;
  }

  /** Looks at one rule and one target repository. @throws what a listing throws. */
  async verify(input: PlanInput): Promise<VerifyLine[]> {
    // What is said about a digest is brought by plans; here it would be a line without a tag.
    const rule = { ...input.rule, prune: false, referrers: false };
    const plan = await this.#planner.plan({ ...input, rule, confirm: true, force: false });
    const walk = new Walk(input.sides.target, this.#limits, input.signal);
    const found: VerifyLine[] = [];
    const judged: (VerifyLine | undefined)[] = [];
    await forEachOf(plan.lines.entries(), this.#limits.tags, async ([index, line]) => {
      judged[index] = await this.#judge(line, walk, input);
    });
    for (const line of judged) if (line !== undefined) found.push(line);
    for (const line of extras(input)) found.push(line);
    return found;
  }

  async #judge(line: PlanLine, walk: Walk, input: PlanInput): Promise<VerifyLine | undefined> {
    const { outcome, reason } = line;
    if (outcome === 'failed') return { ...line, outcome };
    if (outcome === 'copy' && reason === 'new tag')
      return { ...line, outcome: 'missing', reason: 'not at the target' };
    if (outcome === 'copy' || outcome === 'locked') return { ...line, outcome: 'moved' };
    // What is not overwritten is what its rule wants, as long as it is whole.
    if (outcome === 'skip' && reason !== 'not overwritten') return undefined;
    const digest = (line.targetDigest ?? line.digest) as Digest | undefined;
    if (digest === undefined) return undefined;
    try {
      const missing = await walk.missingBelow(digest);
      return missing.length === 0
        ? { ...line, outcome: 'same' }
        : { ...line, outcome: 'incomplete', missing };
    } catch (error) {
      input.signal.throwIfAborted();
      return { ...line, outcome: 'failed', error: summarize(error) };
    }
  }
}

/** Target tags that the rule would take and the source does not have; told for every rule, wrong only where it prunes. */
export function extras({ rule, target, sides, claims, listings }: PlanInput): VerifyLine[] {
  if (!listings.source.isWhole || !listings.target.isWhole) return [];
  const named = matchesNames(rule);
  const names = new TagNames(rule, target);
  const found: VerifyLine[] = [];
  for (const { name, digest } of listings.target.entries) {
    const from = names.source(name);
    const isExtra = listings.source.get(from) === undefined && named(from) && !isReferrerTag(name);
    if (!isExtra || claims.rival(name) !== undefined) continue;
    found.push({
      rule: rule.name,
      source: nameOf(sides.source.name, from),
      target: nameOf(sides.target.name, name),
      ...(digest === undefined ? {} : { targetDigest: digest }),
      outcome: 'extra',
      reason: 'not at the source',
    });
  }
  return found;
}

/** Walks what a target repository has; what many tags share is asked for once. */
class Walk {
  readonly #target: Target;
  readonly #limits: Limits;
  readonly #signal: AbortSignal;
  readonly #manifests = new Map<Digest, Promise<Digest[]>>();
  readonly #blobs = new Map<Digest, boolean>();
  readonly #flights = new SingleFlight<void>();

  constructor(target: Target, limits: Limits, signal: AbortSignal) {
    this.#target = target;
    this.#limits = limits;
    this.#signal = signal;
  }

  /** Digests of manifests and blobs that are named at or below this one and are not there. */
  missingBelow(digest: Digest, depth = 0): Promise<Digest[]> {
    const known = this.#manifests.get(digest) ?? this.#look(digest, depth);
    this.#manifests.set(digest, known);
    return known;
  }

  async #look(digest: Digest, depth: number): Promise<Digest[]> {
    if (depth > maxDepth) throw new HubferryError('ERR_TOO_LARGE', `An index nests deeper than ${maxDepth}`);
    const manifest = await this.#target.fetchManifest(digest, { signal: this.#signal });
    if (manifest === undefined) return [digest];
    const content = parseManifest(manifest);
    const missing = new Set<Digest>();
    await forEachOf(content.manifests, this.#limits.children, async (child) => {
      for (const one of await this.missingBelow(child.digest, depth + 1)) missing.add(one);
    });
    await forEachOf(content.blobs, this.#limits.children, async (blob) => {
      if (!isForeign(blob) && !(await this.#has(blob))) missing.add(blob.digest);
    });
    return [...missing].sort();
  }

  async #has(blob: Descriptor): Promise<boolean> {
    await this.#flights.run(blob.digest, this.#signal, async () => {
      if (this.#blobs.has(blob.digest)) return;
      const size = await this.#target.statBlob(blob.digest, { signal: this.#signal });
      this.#blobs.set(blob.digest, size === blob.size);
    });
    return this.#blobs.get(blob.digest) === true;
  }
}
