/** What can be checked before a run: the state, and the login and the rights at both sides of each rule. */
import { randomBytes } from 'node:crypto';
import type { EngineSetup, Finding } from './cli/engine.ts';
import type { Rule } from './config/model.ts';
import { ConfigError, codeOf, type ErrorCode, errorCodes, HubferryError, summarize } from './errors.ts';
import type { Allowance, Source, Target } from './oci/roles.ts';
import { containers, type Stores } from './storage/ports.ts';
import { forEachOf } from './sync/concurrency.ts';
import type { Core } from './sync/plan/core.ts';
import { Tally } from './sync/runs/tally.ts';

export interface Patient extends Pick<EngineSetup, 'rules' | 'signal'> {
  readonly stores: Stores;
  readonly core: Pick<Core, 'open' | 'expand'>;
  /** Pulls that are kept for pushes. */
  readonly pullReserve: number;
}

/** What is found: a message where all is well, a finding of another kind; it throws what is wrong. */
export interface Probe {
  readonly check: string;
  readonly run: () => Promise<string | Pick<Finding, 'status' | 'message' | 'code' | 'remedy'>>;
}

const probesAtOnce = 4;
/** A host that does not answer is a finding, in milliseconds. */
const probeMs = 15_000;

export async function diagnose(patient: Patient): Promise<Finding[]> {
  const allowances = new Map<string, Allowance>();
  const states = containers
    .filter((container) => container !== 'config')
    .map((container) => ({
      check: `state ${container}`,
      run: () => writeTo(patient.stores[container]),
    }));
  const findings = await examine([
    ...states,
    ...patient.rules.rules.flatMap((rule) => sidesOf(rule, patient, allowances)),
  ]);
  return [
    ...findings,
    ...[...allowances].map(([host, left]) => allowanceFinding(host, left, patient.pullReserve)),
  ];
}

/**
 * Runs the probes, of the same name only one, some at a time; the findings stay in order.
 * @param patienceMs how long one may take, in milliseconds
 */
export async function examine(probes: readonly Probe[], patienceMs = probeMs): Promise<Finding[]> {
  const distinct = new Map(probes.map((probe) => [probe.check, probe]));
  const findings: Finding[] = [];
  await forEachOf([...distinct.values()].entries(), probesAtOnce, async ([index, probe]) => {
    findings[index] = await carryOut(probe, patienceMs);
  });
  return findings;
}

async function carryOut({ check, run }: Probe, patienceMs: number): Promise<Finding> {
  try {
    const found = await within(patienceMs, run());
    return typeof found === 'string' ? { check, status: 'ok', message: found } : { check, ...found };
  } catch (error) {
    return findingOf(check, error);
  }
}

/** What is wrong, with its remedy. */
export function findingOf(check: string, error: unknown): Finding {
  const { code, message } = summarize(error);
  const where = error instanceof ConfigError ? error.where : '';
  return { check, status: 'failed', code, message: where + message, remedy: errorCodes[code].remedy };
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new HubferryError('ERR_TIMEOUT', `There was no answer within ${ms / 1000} s`)),
    ms,
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function sidesOf(rule: Rule, patient: Patient, allowances: Map<string, Allowance>): Probe[] {
  const { core, signal } = patient;
  let expanded: Promise<Rule> | undefined;
  const sample = () => {
    expanded ??= firstOf(rule, core, signal);
    return expanded;
  };
  const open = async (nth: number, tally: Tally) => {
    const one = await sample();
    const target = one.targets[nth];
    if (target === undefined) throw new HubferryError('ERR_CONFIG', `The rule "${rule.name}" has no target`);
    return core.open(one, target, tally);
  };
  const source: Probe = {
    check: `source ${rule.source.host}/${rule.source.path}`,
    run: async () => {
      const tally = new Tally();
      const sides = await open(0, tally);
      const message = await readSource(sides.source, rule, signal);
      if (tally.allowance !== undefined) allowances.set(rule.source.host, tally.allowance);
      return message;
    },
  };
  const targets = rule.targets.map(({ host, path }, nth) => ({
    check: `target ${host}/${path}`,
    run: async () => tryTarget((await open(nth, new Tally())).target, signal),
  }));
  const prunes = rule.targets.map(({ host, path }, nth) => ({
    check: `prune ${host}/${path}`,
    run: async () => tryDelete((await open(nth, new Tally())).target, signal),
  }));
  return [source, ...targets, ...(rule.prune ? prunes : [])];
}

/** Deleting is tried with a tag that nobody has: a registry refuses it where the right is missing. */
async function tryDelete(target: Target, signal: AbortSignal): Promise<string> {
  await target.deleteTag(`hubferry-doctor-${randomBytes(8).toString('hex')}`, { signal });
  return 'its tags can be deleted';
}

/** A namespace is tried by one of its repositories. */
async function firstOf(rule: Rule, core: Patient['core'], signal: AbortSignal): Promise<Rule> {
  const [first] = await core.expand(rule, new Tally(), signal);
  if (first !== undefined) return first;
  throw new HubferryError(
    'ERR_NOT_FOUND',
    `There is no repository in ${rule.source.host}/${rule.source.path}`,
  );
}

/** A HEAD tells what is left of the allowance, for nothing. */
async function readSource(
  source: Source,
  { source: { selector } }: Rule,
  signal: AbortSignal,
): Promise<string> {
  if (selector.kind === 'digest' || selector.kind === 'tags') {
    const reference = selector.kind === 'digest' ? selector.digest : selector.tags[0];
    const there = reference === undefined ? undefined : await source.resolve(reference, { signal });
    return there === undefined ? `${reference} is not there now` : `${reference} is there`;
  }
  const page = await source.listTags({ signal });
  if (page === undefined) throw new HubferryError('ERR_NOT_FOUND', `There is no repository ${source.name}`);
  const [first] = page.tags;
  if (first !== undefined) await source.resolve(first.name, { signal });
  return 'its tags can be read';
}

const mayNotList: ReadonlySet<ErrorCode> = new Set(['ERR_FORBIDDEN', 'ERR_UNAUTHORIZED', 'ERR_UNSUPPORTED']);

/** Writing is tried with an upload that is begun and given up. */
async function tryTarget(target: Target, signal: AbortSignal): ReturnType<Probe['run']> {
  const session = await target.startUpload({ signal });
  await session.cancel({ signal });
  try {
    await target.listTags({ signal });
    return 'it can be written to, and its tags can be read';
  } catch (error) {
    const code = codeOf(error);
    if (!mayNotList.has(code)) throw error;
    const message = 'it can be written to, but not listed: its tags are asked for one by one';
    return { status: 'warning', code, message, remedy: 'Grant the right to list its tags, or leave it so.' };
  }
}

async function writeTo(store: Stores['state']): Promise<string> {
  const key = `doctor/${process.pid}`;
  await store.put(key, Buffer.from(new Date().toISOString()));
  await store.delete(key);
  return 'it can be read and written';
}

function allowanceFinding(host: string, { remaining, limit, source }: Allowance, reserve: number): Finding {
  const check = `allowance ${host}`;
  const message = `${remaining} of ${limit} pulls left for ${source}`;
  if (remaining > reserve) return { check, status: 'ok', message };
  const { remedy } = errorCodes.ERR_RATE_LIMITED;
  return { check, status: 'warning', code: 'ERR_RATE_LIMITED', message, remedy };
}
