/** Composition root: builds what a process needs, once. The only file that knows everyone. */
import type { CompareOptions, Engine, EngineSetup, Finding, RunSummary } from './cli/engine.ts';
import type { StateLocation } from './cli/state.ts';
import { Clients, hasLogin } from './clients.ts';
import type { Rule, Rules, RuleTarget } from './config/model.ts';
import { checkProxies } from './config/proxies.ts';
import { ConfigError, HubferryError, summarize } from './errors.ts';
import { keepHeapSmall } from './heap.ts';
import { azureIdentity } from './identity.ts';
import { checkDockerConfig } from './registry/credentials.ts';
import { createHostGate } from './registry/gate.ts';
import { openFolderStores } from './storage/folder.ts';
import type { Stores } from './storage/ports.ts';
import { StoppedError } from './sync/concurrency.ts';
import { AllowanceKeeper, Puller } from './sync/copy/allowance.ts';
import { BlobCopier } from './sync/copy/blob.ts';
import { Copier } from './sync/copy/copier.ts';
import { Facts } from './sync/copy/facts.ts';
import { GraphCopier } from './sync/copy/graph.ts';
import { defaultLimits, type Limits } from './sync/copy/limits.ts';
import { TagLocks } from './sync/copy/locks.ts';
import { MountCandidates } from './sync/copy/mount.ts';
import { PulledManifests } from './sync/copy/pulled.ts';
import { ReferrerCopier } from './sync/copy/referrers.ts';
import { DirectRun } from './sync/direct.ts';
import type { Core } from './sync/plan/core.ts';
import { Planner } from './sync/plan/planner.ts';
import { Verifier } from './sync/plan/verifier.ts';
import { newRunId } from './sync/run-id.ts';
import { RunBook } from './sync/runs/book.ts';
import { ParkingLot } from './sync/runs/parked.ts';
import {
  type AnyReport,
  buildReport,
  type Line,
  planActions,
  type Report,
  type RunHeader,
  syncOutcomes,
  verifyFindings,
} from './sync/runs/report.ts';
import { listRuns, overviewOf, saveRun } from './sync/runs/runs.ts';
import { Tally } from './sync/runs/tally.ts';
import { longestWaitMs } from './sync/waiting.ts';

/** Share of a rule's tags that one prune may delete unasked. */
const defaultPruneLimit = 0.2;
/** How long a run waits at least for a host that refuses everything, in milliseconds. */
const patienceMs = 3 * 60_000;

export interface CoreOptions {
  readonly rules: Rules;
  readonly stores: Stores;
  readonly clients: Pick<Clients, 'source' | 'target' | 'expand'>;
  readonly limits: Limits;
  /** Where target repositories must begin; empty: anywhere. */
  readonly repositoryPrefixes: readonly string[];
}

/** The engine over the roles: the same for command line and function app. */
export function createCore(options: CoreOptions): Core {
  const { rules, stores, clients, limits, repositoryPrefixes } = options;
  const facts = new Facts(stores.state);
  const candidates = new MountCandidates(stores.state);
  const blobs = new BlobCopier({ checkpoints: stores.checkpoints, candidates, limits });
  const graph = new GraphCopier(blobs, new PulledManifests(stores.checkpoints), limits);
  const locks = new TagLocks(stores.state);
  const copier = new Copier({ graph, referrers: new ReferrerCopier(graph, locks), locks, facts });
  const planner = new Planner(facts, limits, (digest, input) => copier.derive(digest, input));
  const allowance = new AllowanceKeeper(stores.state);
  return {
    planner,
    copier,
    blobs,
    limits,
    verifier: new Verifier(planner, limits),
    open: (rule: Rule, target: RuleTarget, tally: Tally) => {
      checkPrefix(target, repositoryPrefixes);
      const { username = '' } = rules.registryFor(rule.source, 'source');
      const puller = new Puller(rule.source.host, username);
      return {
        source: clients.source(rules, rule.source, puller.besides(tally.source)),
        target: clients.target(rules, target, tally.target),
        puller,
      };
    },
    mirrored: ({ source }, { host, path }) =>
      facts.mirrored(`${source.host}/${source.path}`, `${host}/${path}`),
    expand: (rule, tally, signal) => clients.expand(rules, rule, tally.source, signal),
    admitPull: (puller, reserve, signal) => allowance.admit(puller, reserve, signal),
  };
}

/** With ABAC the identity may write below these prefixes alone: said here, it has a remedy. */
function checkPrefix({ host, path }: RuleTarget, prefixes: readonly string[]): void {
  const fits = (prefix: string) => path.startsWith(prefix.toLowerCase());
  if (prefixes.length === 0 || prefixes.some(fits)) return;
  throw new HubferryError('ERR_PREFIX', `${host}/${path} is below none of ${prefixes.join(', ')}`);
}

/** The engine of the command line. @throws ERR_SETTING where a variable is wrong */
export async function createEngine(setup: EngineSetup): Promise<Engine> {
  checkProxies(setup.env);
  await checkLogins(setup);
  return new DirectEngine({ ...setup, onEvent: keepHeapSmall(setup.onEvent) }, await openState(setup.state));
}

/** The user's Docker configuration is read only where a registry has no login of its own. */
async function checkLogins({ rules, env }: EngineSetup): Promise<void> {
  const settings = rules.rules.flatMap((rule) => [
    rules.registryFor(rule.source, 'source'),
    ...rule.targets.map((target) => rules.registryFor(target, 'target')),
  ]);
  if (!settings.every(hasLogin)) await checkDockerConfig(env);
}

async function openState(state: StateLocation): Promise<Stores> {
  if (state.kind === 'folder') return openFolderStores(state.path);
  const { openBlobStores } = await import('./storage/blob.ts');
  if (state.kind === 'connection') {
    const { connectionString, variable } = state;
    return named(variable, () => openBlobStores({ connectionString }, { create: true }));
  }
  return openBlobStores({ blobServiceUri: state.blobEndpoint, credential: azureIdentity() });
}

const openRunsShown = 20;

/** A mistake in the value of a variable names it. */
function named<T>(variable: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    const { code, message } = summarize(error);
    throw new ConfigError(code, message, { path: variable });
  }
}

class DirectEngine implements Engine {
  readonly #setup: EngineSetup;
  readonly #stores: Stores;
  #clients: Clients | undefined;

  constructor(setup: EngineSetup, stores: Stores) {
    this.#setup = setup;
    this.#stores = stores;
  }

  plan(options: CompareOptions) {
    return this.#report(planActions, options, (run) => run.plan());
  }

  async sync(options: CompareOptions) {
    return this.#saved(await this.#report(syncOutcomes, options, (run) => run.sync()));
  }

  async verify(options: CompareOptions) {
    return this.#saved(await this.#report(verifyFindings, options, (run) => run.verify()));
  }

  /** What was done is told, also where it cannot be kept for `status`. */
  async #saved<R extends AnyReport>(report: R): Promise<R> {
    try {
      await saveRun(this.#stores.runs, report);
    } catch (error) {
      const { code, message } = summarize(error);
      const fields = { run: report.run.id, code, error: message };
      this.#setup.onEvent({ type: 'log', level: 'error', message: 'run not saved', fields });
    }
    return report;
  }

  /** Those of a function app that are still open come first. */
  async runs(): Promise<readonly RunSummary[]> {
    const book = this.#book();
    const names = (await book.openRuns()).slice(-openRunsShown).reverse();
    const open = await Promise.all(names.map((id) => book.report(id)));
    const closed = await listRuns(this.#stores.runs);
    return [...open.flatMap((report) => (report === undefined ? [] : overviewOf(report))), ...closed];
  }

  run(id: string): Promise<AnyReport | undefined> {
    return this.#book().report(id);
  }

  #book(): RunBook {
    return new RunBook(this.#stores.runs, new ParkingLot(this.#stores.state));
  }

  async doctor(): Promise<readonly Finding[]> {
    const { diagnose } = await import('./doctor.ts');
    const { rules, signal } = this.#setup;
    const core = this.#core(this.#open(60_000));
    return diagnose({ rules, signal, core, stores: this.#stores, pullReserve: 0 });
  }

  async close(): Promise<void> {
    await this.#clients?.close();
  }

  #open(wait: number): Clients {
    const { env, options, onEvent } = this.#setup;
    const gate = createHostGate({
      patienceMs: Math.max(patienceMs, wait),
      onWaiting: (host, until) => onEvent({ type: 'waiting', host, until }),
    });
    this.#clients ??= new Clients({
      env,
      gate,
      retries: options.retries,
      maxWaitMs: Math.max(longestWaitMs, wait),
      blobs: options.proc,
      identity: () => azureIdentity(),
    });
    return this.#clients;
  }

  #core(clients: Clients): Core {
    const { rules, options } = this.#setup;
    // No pushes come in here.
    const keptForPushes = { blobs: 0, chunkMemory: 0 };
    const limits = { ...defaultLimits, blobs: options.proc, retries: options.retries, keptForPushes };
    return createCore({ rules, stores: this.#stores, clients, limits, repositoryPrefixes: [] });
  }

  async #report<O extends string>(
    outcomes: readonly O[],
    options: CompareOptions,
    work: (run: DirectRun) => Promise<Line<O>[]>,
  ): Promise<Report<O>> {
    const { rules, onEvent, signal } = this.#setup;
    const startedAt = new Date();
    const id = newRunId(startedAt, 'cli');
    const tally = new Tally();
    const core = this.#core(this.#open(options.wait));
    const run = new DirectRun(core, rules.rules, {
      run: id,
      force: options.force,
      allowMassDelete: options.allowMassDelete,
      pruneLimit: defaultPruneLimit,
      waitMs: options.wait,
      signal: stopWith(signal),
      onEvent,
      tally,
    });
    const lines = await work(run);
    const header: RunHeader = {
      id,
      trigger: 'cli',
      startedAt: startedAt.toISOString(),
      finishedAt: new Date().toISOString(),
      interrupted: signal.aborted,
    };
    return buildReport(header, outcomes, inOrder(lines, rules.rules), tally.totals());
  }
}

/** By rule, tag and target: what ended first is no order in which two reports can be compared. */
function inOrder<O extends string>(lines: readonly Line<O>[], rules: readonly Rule[]): Line<O>[] {
  const places = new Map(rules.map(({ name }, index) => [name, index]));
  const placeOf = ({ rule }: Line<O>) => places.get(rule) ?? rules.length;
  return lines.toSorted(
    (a, b) => placeOf(a) - placeOf(b) || compare(a.source, b.source) || compare(a.target, b.target),
  );
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The engine finishes what is under way and saves it before it ends: whatever the signal's reason, it is a stop. */
function stopWith(signal: AbortSignal): AbortSignal {
  const stop = new AbortController();
  const forward = () => stop.abort(new StoppedError('The run was interrupted'));
  if (signal.aborted) forward();
  else signal.addEventListener('abort', forward, { once: true });
  return stop.signal;
}
