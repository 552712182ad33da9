/** The Azure identity: whoever is logged in on this machine, or the identity of the function app. */
import type { TokenCredential } from '@azure/core-auth';

/**
 * A credential that is loaded with its first token: most commands need none, and the SDK is a good part of a start.
 * @param clientId of a user-assigned identity; without it `DefaultAzureCredential` looks for one.
 */
export function azureIdentity(clientId?: string): TokenCredential {
  let credential: Promise<TokenCredential> | undefined;
  return {
    getToken: async (scopes, options) => {
      credential ??= load(clientId);
      return (await credential).getToken(scopes, options);
    },
  };
}

async function load(clientId: string | undefined): Promise<TokenCredential> {
  const { DefaultAzureCredential, ManagedIdentityCredential } = await import('@azure/identity');
  return clientId === undefined ? new DefaultAzureCredential() : new ManagedIdentityCredential({ clientId });
}
