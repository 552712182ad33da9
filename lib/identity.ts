/** The Azure identity: whoever is logged in on this machine, or the identity of the function app. */
import type { TokenCredential } from '@azure/core-auth';
import { HubferryError } from './errors.ts';

/**
 * A credential that is loaded with its first token: most commands need none, and the SDK is a good part of a start.
 * Nobody's own abort ends a request for a token: the SDK's clients share one among all who wait for it.
 * @param clientId of a user-assigned identity; without it `DefaultAzureCredential` looks for one.
 * @param patienceMs how long an answer is waited for, in milliseconds, the first time and once more
 */
export function azureIdentity(clientId?: string, patienceMs = 10_000): TokenCredential {
  let credential: Promise<TokenCredential> | undefined;
  return {
    getToken: async (scopes, { abortSignal: _, ...options } = {}) => {
      credential ??= load(clientId);
      const loaded = await credential;
      return askTwice(() => loaded.getToken(scopes, options), patienceMs);
    },
  };
}

async function load(clientId: string | undefined): Promise<TokenCredential> {
  const { DefaultAzureCredential, ManagedIdentityCredential } = await import('@azure/identity');
  return clientId === undefined ? new DefaultAzureCredential() : new ManagedIdentityCredential({ clientId });
}

const silence = Symbol('silence');

/**
 * The SDK waits for ever for an endpoint that never answers, and everything that needs a token with it. The first answer
 * of two counts: a program that has to be started (`az`) is only slow.
 */
async function askTwice<Answer>(ask: () => Promise<Answer>, patienceMs: number): Promise<Answer> {
  const first = ask();
  const early = await orSilence(first, patienceMs);
  if (early !== silence) return early;
  const late = await orSilence(Promise.race([first, ask()]), patienceMs);
  if (late !== silence) return late;
  const seconds = (2 * patienceMs) / 1000;
  const message = `The Azure identity was asked twice and did not answer within ${seconds} s.`;
  throw new HubferryError('ERR_IDENTITY', message, { retryable: true });
}

async function orSilence<Answer>(answer: Promise<Answer>, ms: number): Promise<Answer | typeof silence> {
  const { promise, resolve } = Promise.withResolvers<typeof silence>();
  const timer = setTimeout(resolve, ms, silence);
  try {
    return await Promise.race([answer, promise]);
  } finally {
    clearTimeout(timer);
  }
}
