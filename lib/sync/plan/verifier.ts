/** Compares source and target, down to every manifest and blob; pulls nothing that is billed where a memory spares it. */
import { HubferryError, summarize } from '../../errors.ts';
import type { Descriptor, Digest } from '../../oci/descriptor.ts';
import { isForeign, maxDepth, parseManifest } from '../../oci/manifest.ts';
import { isReferrerTag } from '../../oci/reference.ts';
import type { Target } from '../../oci/roles.ts';
import { forEachOf, SingleFlight } from '../concurrency.ts';
import type { Limits } from '../copy/limits.ts';
import type { Line, VerifyFinding } from '../runs/report.ts';
import { nameOf, TagNames } from '../select/names.ts';
import { matchesNames } from '../select/select.ts';
import type { PlanLine } from './fan-out.ts';
import type { PlanInput, Planner } from './planner.ts';
import { ReferrerCheck } from './referrer-check.ts';
import { withOutcome } from './same-line.ts';

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
    const { lookups } = this.#limits;
    const referrers = input.rule.referrers ? await ReferrerCheck.open(input, lookups) : undefined;
    const walk = new Walk(input.sides.target, this.#limits, input.signal, referrers);
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
    if (outcome === 'failed') return withOutcome(line, outcome);
    if (outcome === 'copy' && reason === 'new tag')
      return { ...withOutcome(line, 'missing'), reason: 'not at the target' };
    if (outcome === 'copy' || outcome === 'locked') return withOutcome(line, 'moved');
    // What is not overwritten is what its rule wants, as long as it is whole.
    if (outcome === 'skip' && reason !== 'not overwritten') return undefined;
    const digest = (line.targetDigest ?? line.digest) as Digest | undefined;
    if (digest === undefined) return undefined;
    try {
      const missing = await walk.missing(digest);
      return missing.length === 0
        ? withOutcome(line, 'same')
        : { ...withOutcome(line, 'incomplete'), missing };
    } catch (error) {
      input.signal.throwIfAborted();
      return { ...withOutcome(line, 'failed'), error: summarize(error) };
    }
  }
}

/** Target tags that the rule would take and the source does not have; told for every rule, wrong only where it prunes. */
export function extras({ rule, target, sides, claims, listings }: PlanInput): VerifyLine[] {
  if (!listings.source.isWhole || !listings.target.isWhole) return [];
  const named = matchesNames(rule);
  const names = new TagNames(rule, target);
  const found: VerifyLine[] = [];
  for (const name of listings.target.names) {
    const from = names.source(name);
    const isExtra = !listings.source.has(from) && named(from) && !isReferrerTag(name);
    if (!isExtra || claims.rival(name) !== undefined) continue;
    const digest = listings.target.digestOf(name);
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

/** What was found at or below one manifest. */
interface Found {
  readonly manifests: ReadonlySet<Digest>;
  readonly missing: ReadonlySet<Digest>;
}

/** Walks what a target repository has; what many tags share is asked for once. */
class Walk {
  readonly #target: Target;
  readonly #limits: Limits;
  readonly #signal: AbortSignal;
  readonly #referrers: ReferrerCheck | undefined;
  readonly #found = new Map<Digest, Promise<Found>>();
  readonly #unsaid = new Map<Digest, Promise<ReadonlySet<Digest>>>();
  readonly #blobs = new Map<Digest, boolean>();
  readonly #flights = new SingleFlight<void>();

  /** @param referrers absent where what is said about a manifest does not matter */
  constructor(target: Target, limits: Limits, signal: AbortSignal, referrers: ReferrerCheck | undefined) {
    this.#target = target;
    this.#limits = limits;
    this.#signal = signal;
    this.#referrers = referrers;
  }

  /** Digests of manifests and blobs that are named at or below this one, or said about any of it, and are not there. */
  async missing(digest: Digest): Promise<Digest[]> {
    const { manifests, missing } = await this.#below(digest);
    const all = new Set(missing);
    const { children } = this.#limits;
    await forEachOf(this.#referrers === undefined ? [] : manifests, children, async (manifest) => {
      for (const one of await once(this.#unsaid, manifest, () => this.#unsaidAbout(manifest))) all.add(one);
    });
    return [...all].sort();
  }

  #below(digest: Digest, depth = 0): Promise<Found> {
    return once(this.#found, digest, () => this.#look(digest, depth));
  }

  async #look(digest: Digest, depth: number): Promise<Found> {
    if (depth > maxDepth) throw new HubferryError('ERR_TOO_LARGE', `An index nests deeper than ${maxDepth}`);
    const manifest = await this.#target.fetchManifest(digest, { signal: this.#signal });
    if (manifest === undefined) return { manifests: new Set(), missing: new Set([digest]) };
    const content = parseManifest(manifest);
    const manifests = new Set([digest]);
    const missing = new Set<Digest>();
    await forEachOf(content.manifests, this.#limits.children, async (child) => {
      const below = await this.#below(child.digest, depth + 1);
      for (const one of below.manifests) manifests.add(one);
      for (const one of below.missing) missing.add(one);
    });
    await forEachOf(content.blobs, this.#limits.children, async (blob) => {
      if (!isForeign(blob) && !(await this.#has(blob))) missing.add(blob.digest);
    });
    return { manifests, missing };
  }

  /** What is said about a manifest, as far as it or something below it is not there. */
  async #unsaidAbout(digest: Digest): Promise<ReadonlySet<Digest>> {
    const { there, missing } = (await this.#referrers?.about(digest)) ?? { there: [], missing: [] };
    const all = new Set(missing);
    for (const referrer of there) for (const one of (await this.#below(referrer)).missing) all.add(one);
    return all;
  }

  async #has(blob: Descriptor): Promise<boolean> {
    await this.#flights.run(blob.digest, this.#signal, async () => {
      if (this.#blobs.has(blob.digest)) return;
      const there = await this.#target.statBlob(blob.digest, { signal: this.#signal });
      this.#blobs.set(blob.digest, there !== undefined && (there.size ?? blob.size) === blob.size);
    });
    return this.#blobs.get(blob.digest) === true;
  }
}

function once<Value>(known: Map<Digest, Promise<Value>>, digest: Digest, find: () => Promise<Value>) {
  const found = known.get(digest) ?? find();
  known.set(digest, found);
  return found;
}
