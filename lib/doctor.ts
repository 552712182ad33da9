/** What can be checked before a run: the rules, the state, and the login at both sides of each rule. */
import type { EngineSetup, Finding } from './cli/engine.ts';
import type { Clients } from './clients.ts';
import { codeOf, errorCodes, summarize } from './errors.ts';
import type { Stores } from './storage/ports.ts';
import { Tally } from './sync/tally.ts';

export interface Patient extends Pick<EngineSetup, 'rules' | 'signal'> {
  readonly stores: Stores;
  readonly clients: Clients;
}

export async function diagnose(patient: Patient): Promise<Finding[]> {
  const findings = [await check('state', () => writeState(patient.stores))];
  for (const rule of patient.rules.rules) {
    const tally = new Tally();
    const { signal } = patient;
    const source = patient.clients.source(patient.rules, rule.source, tally.source);
    findings.push(await check(`source ${source.name}`, () => source.listTags({ signal })));
    for (const name of rule.targets) {
      const target = patient.clients.target(patient.rules, name, tally.target);
      findings.push(await check(`target ${target.name}`, () => target.listTags({ signal })));
    }
    if (tally.allowance !== undefined) {
      const { remaining, limit, source: counted } = tally.allowance;
      findings.push({
        check: 'allowance',
        status: 'ok',
        message: `${remaining} of ${limit} pulls left for ${counted}`,
      });
    }
  }
  return findings;
}

async function check(name: string, probe: () => Promise<unknown>): Promise<Finding> {
  try {
    await probe();
    return { check: name, status: 'ok', message: 'reached' };
  } catch (error) {
    const code = codeOf(error);
    return {
      check: name,
      status: 'failed',
      code,
      message: summarize(error).message,
      remedy: errorCodes[code].remedy,
    };
  }
}

async function writeState({ state }: Stores): Promise<void> {
  await state.put('doctor', Buffer.from(new Date().toISOString()));
}
