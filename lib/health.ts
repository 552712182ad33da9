/** What can be checked of the function app itself: rules, secrets, identity, queues. */
import type { TokenCredential } from '@azure/core-auth';
import type { AppSettings } from './config/environment.ts';
import { isUnresolvedSecret, unresolvedSecret } from './config/variables.ts';
import type { Probe } from './doctor.ts';
import { type ErrorSummary, errorCodes, HubferryError } from './errors.ts';
import { queues } from './storage/ports.ts';
import type { AzureQueues } from './storage/queue.ts';
import type { Control } from './sync/queue/control.ts';

export interface AppPatient {
  readonly settings: AppSettings;
  readonly queues: AzureQueues;
  readonly control: Control;
  /** What is in force, and why the newest version is not. */
  readonly rules: () => Promise<{ readonly count: number; readonly error: ErrorSummary | undefined }>;
  /** Where storage is reached by it. */
  readonly identity: TokenCredential | undefined;
  readonly signal: AbortSignal;
}

const storageScope = 'https://storage.azure.com/.default';

export function probesOfApp(patient: AppPatient): Probe[] {
  const { settings, identity, signal } = patient;
  return [
    { check: 'rules', run: () => readRules(patient) },
    { check: 'secrets', run: async () => readSecrets(settings) },
    { check: 'notification', run: async () => readNotifyUrl(settings) },
    ...(identity === undefined ? [] : [{ check: 'identity', run: () => askIdentity(identity, signal) }]),
    ...queues.map((queue) => ({ check: `queue ${queue}`, run: () => countMessages(patient, queue) })),
    { check: 'copying', run: () => readWishes(patient.control) },
  ];
}

async function readRules({ rules }: AppPatient): ReturnType<Probe['run']> {
  const { count, error } = await rules();
  const inForce = `${count} rules are in force`;
  if (error === undefined) return inForce;
  const { code, message } = error;
  return { status: 'failed', code, message: `${message} (${inForce})`, remedy: errorCodes[code].remedy };
}

function readSecrets({ variables }: AppSettings): string {
  const open = Object.entries(variables).filter(([, value]) => isUnresolvedSecret(value ?? ''));
  if (open.length > 0) throw unresolvedSecret(open.map(([name]) => name).join(', '));
  return `${Object.keys(variables).length} settings are open to rules, and none is an unresolved reference`;
}

function readNotifyUrl(settings: AppSettings): string {
  return settings.notifyUrl() === undefined ? 'nobody is notified' : 'there is an address';
}

async function askIdentity(identity: TokenCredential, abortSignal: AbortSignal): Promise<string> {
  const token = await identity.getToken(storageScope, { abortSignal }).catch(() => null);
  if (token === null) throw new HubferryError('ERR_IDENTITY', 'The Azure identity gave no token for storage');
  return 'it gives tokens';
}

async function countMessages(
  { queues, signal }: AppPatient,
  queue: Parameters<AzureQueues['send']>[0],
): Promise<string> {
  const [waiting, poisoned] = await Promise.all([
    queues.approximateCount(queue, { signal }),
    queues.approximateCount(`${queue}-poison`, { signal }),
  ]);
  return `${waiting} messages, ${poisoned} in the poison queue`;
}

async function readWishes(control: Control): ReturnType<Probe['run']> {
  const { pausedSince } = await control.wishes();
  if (pausedSince === undefined) return 'it goes on';
  const message = `it is paused since ${pausedSince}`;
  return { status: 'warning', message, remedy: 'POST /api/control with `resume`.' };
}
