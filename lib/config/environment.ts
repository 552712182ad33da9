/** The function app's settings. The command line has options instead. */
import * as z from 'zod';
import { ConfigError, HubferryError } from '../errors.ts';
import { parseDuration } from './quantity.ts';
import { type Environment, isPrefixed, isUnresolvedSecret, unresolvedSecret } from './variables.ts';

/** What may be posted to `NOTIFY_URL`. */
export const notifications = ['failed', 'parked', 'changed', 'recovered'] as const;
export type Notification = (typeof notifications)[number];

/** The product's storage: by a connection string, or by identity. */
export type StorageSettings =
  | { readonly kind: 'connection'; readonly connectionString: string }
  | {
      readonly kind: 'identity';
      readonly blobServiceUri: string;
      readonly queueServiceUri: string;
      /** The user-assigned identity; absent for the one of the system. */
      readonly clientId: string | undefined;
    };

export interface AppSettings {
  readonly storage: StorageSettings;
  /** The rules themselves; absent where they are in the container `config`. */
  readonly syncConfig: string | undefined;
  readonly azureClientId: string | undefined;
  /** Milliseconds after which a copier stops by itself and queues the rest. */
  readonly copyDeadline: number;
  /** Pulls of Docker Hub's allowance that only pushes may use. */
  readonly pullReserve: number;
  /** Share of a rule's tags (0 to 1) that one prune may delete. */
  readonly pruneLimit: number;
  readonly notifyOn: ReadonlySet<Notification>;
  /** Where target repositories must begin; empty where they may be anything. */
  readonly repositoryPrefixes: readonly string[];
  /** Reads `NOTIFY_URL` when it is used. @throws ERR_SECRET_UNRESOLVED, ERR_SETTING */
  notifyUrl(): string | undefined;
  /** What rules may expand. A secret that the platform did not resolve is an error only for rules that name it. */
  readonly variables: Environment;
}

/** @throws ConfigError ERR_SETTING, naming the setting */
export function readAppSettings(env: Environment = process.env): AppSettings {
  const settings = parse(env);
  return Object.freeze({
    storage: readStorage(env),
    syncConfig: settings.SYNC_CONFIG,
    azureClientId: settings.AZURE_CLIENT_ID,
    copyDeadline: settings.COPY_DEADLINE,
    pullReserve: settings.PULL_RESERVE,
    pruneLimit: settings.PRUNE_LIMIT,
    notifyOn: new Set(settings.NOTIFY_ON),
    repositoryPrefixes: settings.REPOSITORY_PREFIXES,
    notifyUrl: () => readNotifyUrl(env),
    variables: Object.freeze(Object.fromEntries(Object.entries(env).filter(([name]) => isPrefixed(name)))),
  });
}

const minute = 60_000;

const optional = z.string().optional();

const deadlineText = 'a duration from 10s to 9m, such as 8m';
const copyDeadline = z
  .string()
  .default('8m')
  .transform((text) => parseDuration(text) ?? 0)
  // The message lease of the queue trigger is ten minutes, and a copier needs time to save and to queue the rest.
  .refine((duration) => duration >= minute / 6 && duration <= 9 * minute, deadlineText);

const pullReserve = z
  .string()
  .default('20')
  .refine((text) => /^\d{1,6}$/.test(text), 'a number of pulls, such as 20')
  .transform(Number);

const pruneLimit = z
  .string()
  .default('20%')
  .transform(parseShare)
  .refine((share) => share >= 0 && share <= 1, 'a share such as 20% or 0.2');

const words = (text: string) =>
  text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');

const notifyOn = z
  .string()
  .default('failed,parked,recovered')
  .transform(words)
  .pipe(z.array(z.enum(notifications, `a list of ${notifications.join(', ')}`)));

const repositoryPrefixes = z
  .string()
  .default('')
  .transform(words)
  .pipe(
    z.array(
      z.string().regex(/^[a-z0-9][a-z0-9._/-]*$/, 'a list of beginnings of repositories, such as mirror/'),
    ),
  );

const settingsSchema = z.object({
  SYNC_CONFIG: optional,
  AZURE_CLIENT_ID: optional,
  COPY_DEADLINE: copyDeadline,
  PULL_RESERVE: pullReserve,
  PRUNE_LIMIT: pruneLimit,
  NOTIFY_ON: notifyOn,
  REPOSITORY_PREFIXES: repositoryPrefixes,
});

function parse(env: Environment): z.output<typeof settingsSchema> {
  // An empty setting is one that was left out: Azure has no other way to leave one out of a template.
  const given = Object.fromEntries(
    Object.entries(env).filter(([, value]) => value !== undefined && value !== ''),
  );
  const result = settingsSchema.safeParse(given);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const name = String(issue?.path[0]);
  throw wrongSetting(name, `The setting ${name} is wrong: expected ${issue?.message}.`);
}

function parseShare(text: string): number {
  const match = /^(\d{1,3}(?:\.\d{1,6})?)(%?)$/.exec(text);
  if (match === null) return Number.NaN;
  return Number(match[1]) / (match[2] === '%' ? 100 : 1);
}

/** As the host resolves a connection: the exact setting wins over the ones with `__`. */
function readStorage(env: Environment): StorageSettings {
  const connectionString = env.HubferryStorage;
  if (connectionString) return { kind: 'connection', connectionString };
  const credential = env.HubferryStorage__credential;
  if (credential && credential !== 'managedidentity') {
    throw wrongSetting(
      'HubferryStorage__credential',
      'The setting HubferryStorage__credential must be managedidentity.',
    );
  }
  return {
    kind: 'identity',
    blobServiceUri: readServiceUri(env, 'HubferryStorage__blobServiceUri'),
    queueServiceUri: readServiceUri(env, 'HubferryStorage__queueServiceUri'),
    clientId: env.HubferryStorage__clientId || undefined,
  };
}

function readServiceUri(env: Environment, name: string): string {
  const uri = env[name];
  if (!uri) {
    throw wrongSetting(
      name,
      `The setting ${name} is missing, and so is HubferryStorage with a connection string.`,
    );
  }
  const url = URL.canParse(uri) ? new URL(uri) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search !== '') {
    throw wrongSetting(
      name,
      `The setting ${name} must be the URL of a storage service, without user or query.`,
    );
  }
  return uri.replace(/\/+$/, '');
}

function readNotifyUrl(env: Environment): string | undefined {
  const text = env.NOTIFY_URL;
  if (!text) return undefined;
  if (isUnresolvedSecret(text)) throw unresolvedSecret('NOTIFY_URL');
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text;
  throw new HubferryError('ERR_SETTING', 'The setting NOTIFY_URL must be a URL that begins with https://.');
}

function wrongSetting(name: string, message: string): ConfigError {
  return new ConfigError('ERR_SETTING', message, { path: name });
}
