import type { Environment } from '../config/variables.ts';
import { ConfigError } from '../errors.ts';

/** Where checkpoints, what is remembered, and reports are kept. */
export type StateLocation =
  | { readonly kind: 'folder'; readonly path: string }
  /** With the Azure identity. */
  | { readonly kind: 'account'; readonly blobEndpoint: string }
  | { readonly kind: 'connection'; readonly connectionString: string; readonly variable: string };

const byDefault = '.hubferry';
const variable = 'AZURE_STORAGE_CONNECTION_STRING';

/**
 * `--state`: a URL is a storage account's blob endpoint, anything else a folder. Where the option is absent, or names
 * the account that the connection string is for, AZURE_STORAGE_CONNECTION_STRING is used.
 */
export function stateLocation(where: string | undefined, env: Environment): StateLocation {
  const connectionString = env[variable] || undefined;
  if (where === undefined) {
    return connectionString === undefined
      ? { kind: 'folder', path: byDefault }
      : { kind: 'connection', connectionString, variable };
  }
  if (
    /(^|;)\s*(AccountName|AccountKey|BlobEndpoint|UseDevelopmentStorage|SharedAccessSignature)=/i.test(where)
  ) {
    // Other users of the machine can read a command line.
    throw new ConfigError(
      'ERR_USAGE',
      `--state takes no connection string: set ${variable} and leave --state out.`,
    );
  }
  if (!/^https?:\/\//i.test(where)) return { kind: 'folder', path: where };
  const blobEndpoint = readEndpoint(where);
  if (connectionString !== undefined && isFor(connectionString, blobEndpoint))
    return { kind: 'connection', connectionString, variable };
  if (blobEndpoint.startsWith('https://')) return { kind: 'account', blobEndpoint };
  throw new ConfigError(
    'ERR_USAGE',
    `--state: with the Azure identity an account is reached by https; for another one set ${variable}.`,
  );
}

function readEndpoint(where: string): string {
  const url = URL.canParse(where) ? new URL(where) : undefined;
  if (url === undefined || url.username !== '' || url.search !== '' || url.hash !== '') {
    throw new ConfigError(
      'ERR_USAGE',
      '--state takes a blob endpoint such as https://name.blob.core.windows.net, without user or query.',
    );
  }
  return url.href.replace(/\/+$/, '');
}

const developmentEndpoint = 'http://127.0.0.1:10000/devstoreaccount1';

/** Whether a connection string speaks of the account at this endpoint. */
function isFor(connectionString: string, blobEndpoint: string): boolean {
  const fields = new Map(
    connectionString.split(';').map((field) => {
      const equals = field.indexOf('=');
      return [field.slice(0, equals).trim().toLowerCase(), field.slice(equals + 1).trim()];
    }),
  );
  const named =
    fields.get('usedevelopmentstorage') === 'true' ? developmentEndpoint : fields.get('blobendpoint');
  if (named !== undefined) return named.replace(/\/+$/, '').toLowerCase() === blobEndpoint.toLowerCase();
  const account = fields.get('accountname')?.toLowerCase();
  return account !== undefined && new URL(blobEndpoint).hostname.startsWith(`${account}.blob.`);
}
