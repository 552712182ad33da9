/**
 * host.json and app settings as the host reads them: defaults, overrides by `AzureFunctionsJobHost__…` settings,
 * `%NAME%` in bindings, and storage connections.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import { QueueServiceClient } from '@azure/storage-queue';
import * as z from 'zod';
import type { BindingInfo } from './protocol.ts';

export type Settings = Readonly<Record<string, string>>;

const timeSpan = z.string().transform((text, context) => {
  const milliseconds = parseTimeSpan(text);
  if (milliseconds === undefined) context.addIssue(`"${text}" is no time span (hh:mm:ss)`);
  return milliseconds ?? z.NEVER;
});

const bound = (min: number, max: number, otherwise: number) =>
  z.coerce.number().int().min(min).max(max).default(otherwise);

const queuesSchema = z.strictObject({
  batchSize: bound(1, 32, 16),
  newBatchThreshold: bound(0, 1000, 8),
  visibilityTimeout: timeSpan.prefault('00:00:00'),
  maxDequeueCount: bound(1, 1_000_000, 5),
  maxPollingInterval: timeSpan.prefault('00:01:00').refine((value) => value >= 100, 'at least 100 ms'),
  messageEncoding: z.literal('base64').default('base64'),
});

const hostSchema = z.looseObject({
  version: z.literal('2.0'),
  functionTimeout: timeSpan.prefault('00:30:00'),
  extensionBundle: z.looseObject({ id: z.string(), version: z.string() }).optional(),
  extensions: z
    .looseObject({
      http: z.looseObject({ routePrefix: z.string().default('api') }).prefault({}),
      queues: queuesSchema.prefault({}),
    })
    .prefault({}),
});

/** Time spans are in milliseconds. */
export type HostOptions = z.infer<typeof hostSchema>;
export type QueueOptions = z.infer<typeof queuesSchema>;

const overridePrefix = 'AzureFunctionsJobHost__';

/** host.json with its defaults and the settings that override it (`AzureFunctionsJobHost__extensions__queues__batchSize`). */
export function readHostOptions(appRoot: string, settings: Settings): HostOptions {
  const content: unknown = JSON.parse(readFileSync(path.join(appRoot, 'host.json'), 'utf8'));
  const merged = z.record(z.string(), z.unknown()).parse(content);
  for (const [name, value] of Object.entries(settings)) {
    if (name.startsWith(overridePrefix))
      override(merged, name.slice(overridePrefix.length).split('__'), value);
  }
  const result = hostSchema.safeParse(merged);
  if (!result.success) throw new Error(`host.json: ${z.prettifyError(result.error)}`);
  return result.data;
}

function override(target: Record<string, unknown>, [key = '', ...rest]: string[], value: string): void {
  if (rest.length === 0) {
    target[key] = value;
    return;
  }
  const inner = { ...(target[key] as Record<string, unknown> | undefined) };
  target[key] = inner;
  override(inner, rest, value);
}

/** .NET's `[d.]hh:mm:ss[.fff]` in milliseconds. */
function parseTimeSpan(text: string): number | undefined {
  const match = /^(?:(\d+)\.)?(\d\d?):(\d\d):(\d\d(?:\.\d{1,7})?)$/.exec(text);
  if (!match) return undefined;
  const [days = 0, hours = 0, minutes = 0, seconds = 0] = match.slice(1).map((part) => Number(part ?? 0));
  return Math.round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000);
}

/** A binding with each `%NAME%` replaced by the setting of that name. */
export function resolveBinding(binding: BindingInfo, settings: Settings): BindingInfo {
  const resolved = Object.entries(binding).map(([option, value]) => {
    return [option, typeof value === 'string' ? resolveExpressions(value, settings) : value];
  });
  return Object.fromEntries(resolved);
}

function resolveExpressions(text: string, settings: Settings): string {
  return text.replace(/%([^%]+)%/g, (expression, name: string) => {
    const value = settings[name];
    if (!value) throw new Error(`'${expression}' does not resolve to a value: set ${name}.`);
    return value;
  });
}

/** The queue service behind a binding's `connection`. */
export function queueServiceOf(connection: string, settings: Settings): QueueServiceClient {
  const text = settings[connection] ?? settings[`AzureWebJobs${connection}`];
  if (text) return QueueServiceClient.fromConnectionString(text);
  const uri = settings[`${connection}__queueServiceUri`] ?? settings[`${connection}__serviceUri`];
  if (!uri) throw new Error(`Storage connection '${connection}' does not exist: set ${connection}.`);
  trustExtraCertificates(settings);
  const clientId = settings[`${connection}__clientId`];
  return new QueueServiceClient(uri, { getToken: () => managedIdentityToken(settings, clientId) });
}

/** What NODE_EXTRA_CA_CERTS does for the worker at its start, for the process that the host runs in. */
function trustExtraCertificates(settings: Settings): void {
  const file = settings.NODE_EXTRA_CA_CERTS;
  if (file) tls.setDefaultCACertificates([...tls.getCACertificates('default'), readFileSync(file, 'utf8')]);
}

const tokenSchema = z.object({ access_token: z.string(), expires_on: z.coerce.number() });

/** App Service's identity endpoint (api-version 2019-08-01), as the host itself asks it for identity-based connections. */
async function managedIdentityToken(settings: Settings, clientId: string | undefined) {
  const endpoint = settings.IDENTITY_ENDPOINT;
  if (!endpoint) throw new Error('An identity-based connection needs IDENTITY_ENDPOINT.');
  const url = new URL(endpoint);
  url.searchParams.set('api-version', '2019-08-01');
  url.searchParams.set('resource', 'https://storage.azure.com/');
  if (clientId) url.searchParams.set('client_id', clientId);
  const response = await fetch(url, { headers: { 'x-identity-header': settings.IDENTITY_HEADER ?? '' } });
  if (!response.ok) throw new Error(`The identity endpoint answered ${response.status}.`);
  const token = tokenSchema.parse(await response.json());
  return { token: token.access_token, expiresOnTimestamp: token.expires_on * 1000 };
}
