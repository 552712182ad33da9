import { withoutSecrets } from './errors/secrets.ts';

/**
 * Every code that an error of hubferry can carry, with its meaning and what a person does about it.
 * The README's table is this one; a test compares them.
 */
export const errorCodes = {
  ERR_USAGE: { meaning: 'The command line is wrong.', remedy: 'See `hubferry --help`.' },
  ERR_CONFIG: {
    meaning: 'The rules file, or a file of image-syncer, is wrong.',
    remedy: 'Correct the named line.',
  },
  ERR_SETTING: {
    meaning: 'A setting of the environment is missing or wrong.',
    remedy: 'Correct the named setting.',
  },
  ERR_VARIABLE_UNSET: {
    meaning: 'A variable that the rules file names is not set, or may not be read.',
    remedy: 'Set it, or write `$$` for a dollar sign.',
  },
  ERR_SECRET_UNRESOLVED: {
    meaning: 'A Key Vault reference was not resolved by the platform.',
    remedy: 'Give the identity `Key Vault Secrets User`, check the secret, then refresh the references.',
  },
  ERR_REFERENCE: { meaning: 'A name is no valid reference.', remedy: 'Write `registry/repository[:tag]`.' },
  ERR_DIGEST_INVALID: {
    meaning: 'A digest is malformed.',
    remedy: 'Write `sha256:` and 64 hexadecimal digits.',
  },
  ERR_MANIFEST_INVALID: {
    meaning: 'A manifest breaks its specification.',
    remedy: 'Ask the publisher to push it again.',
  },
  ERR_SCHEMA1: {
    meaning: 'The manifest is Docker schema 1, which registries no longer take.',
    remedy: 'Push it again with a current Docker, or exclude the tag.',
  },
  ERR_TOO_LARGE: { meaning: 'Something is larger than its limit.', remedy: 'Exclude the tag.' },
  ERR_SIZE_MISMATCH: {
    meaning: 'Content has another size than its descriptor says.',
    remedy: 'Run again; if it stays, the source is damaged.',
  },
  ERR_DIGEST_MISMATCH: {
    meaning: 'Content has another digest than its descriptor says.',
    remedy: 'Run again; if it stays, the source is damaged.',
  },
  ERR_CONNECTION: {
    meaning: 'A host was not reached, or the connection broke.',
    remedy: 'Check the name, the network, the firewall and the proxy.',
  },
  ERR_TLS: {
    meaning: 'The certificate of a host was refused.',
    remedy: 'Set `ca` for the registry, or NODE_EXTRA_CA_CERTS.',
  },
  ERR_TIMEOUT: { meaning: 'A host did not answer in time.', remedy: 'Run again; check the network.' },
  ERR_UNAUTHORIZED: {
    meaning: 'A registry refused the login.',
    remedy: 'Check user name, password or token, and their expiry.',
  },
  ERR_FORBIDDEN: {
    meaning: 'The login is good but lacks a right.',
    remedy:
      'Grant pull at the source, AcrPush or Repository Writer at the target, and the right to delete where a rule prunes (`allowPrune`).',
  },
  ERR_IDENTITY: {
    meaning: 'The Azure identity gave no token.',
    remedy: 'Assign the identity, set AZURE_CLIENT_ID, or run `az login`.',
  },
  ERR_NOT_FOUND: { meaning: 'A repository or its content does not exist.', remedy: 'Check the name.' },
  ERR_TAG_UNKNOWN: {
    meaning: 'A tag that a rule names does not exist at the source.',
    remedy: 'Check the tag.',
  },
  ERR_BLOB_MISSING: {
    meaning: 'The source names a blob or manifest that it does not have.',
    remedy: 'Ask the publisher to push it again.',
  },
  ERR_BLOB_UNKNOWN: {
    meaning: 'The target misses something that a manifest names.',
    remedy: 'Run again with `--force`.',
  },
  ERR_UPLOAD_LOST: { meaning: 'The target lost an upload session.', remedy: 'None: the blob is sent again.' },
  ERR_RATE_LIMITED: {
    meaning: 'A registry asks to come back later.',
    remedy: 'Wait, or log in with an account of a larger allowance.',
  },
  ERR_SERVER: { meaning: 'A registry failed.', remedy: 'Run again later.' },
  ERR_PROTOCOL: {
    meaning: 'A host answered what the protocol does not allow.',
    remedy: 'Check `endpoint`; a proxy may be in between.',
  },
  ERR_REDIRECT: {
    meaning: 'A host redirected to where it must not.',
    remedy: 'Check `endpoint`; report it to the registry.',
  },
  ERR_REJECTED: { meaning: 'The target refused the content.', remedy: 'Read the message of the registry.' },
  ERR_LOCKED: {
    meaning: 'The target tag or manifest is locked.',
    remedy: 'Unlock it at the target, or exclude it.',
  },
  ERR_UNSUPPORTED: { meaning: 'A registry cannot do what was asked.', remedy: 'Change the rule.' },
  ERR_TARGET_CONFLICT: {
    meaning: 'Two sources want the same target tag.',
    remedy: 'Change one of the two rules.',
  },
  ERR_PLATFORM_MISSING: {
    meaning: 'An index has none of the platforms that the rule keeps.',
    remedy: 'Change `platforms`, or exclude the tag.',
  },
  ERR_LISTING_INCOMPLETE: {
    meaning: 'A listing was cut short or repeats itself.',
    remedy: 'Run again; nothing was deleted.',
  },
  ERR_MASS_DELETE: {
    meaning: 'Prune would delete more than its share of the tags.',
    remedy: 'Look at the plan; then use `--allow-mass-delete` or raise PRUNE_LIMIT.',
  },
  ERR_PREFIX: {
    meaning: 'The target repository is outside `repositoryPrefixes`.',
    remedy: 'Add its prefix to the parameter `repositoryPrefixes` and deploy again.',
  },
  ERR_STORAGE: {
    meaning: 'The state could not be read or written.',
    remedy: 'Check the storage account, the roles, or the folder.',
  },
  ERR_LEASE_LOST: { meaning: 'Another process took over.', remedy: 'None: it goes on there.' },
  ERR_RUN_UNKNOWN: { meaning: 'There is no such run.', remedy: 'See `hubferry status`.' },
  ERR_REQUEST_INVALID: {
    meaning: 'A request or message is malformed.',
    remedy: 'Send what the README documents.',
  },
  ERR_POISON: {
    meaning: 'A request failed again and again.',
    remedy: 'Read the log of its run; then `control` with `retry`.',
  },
  ERR_LOST: {
    meaning: 'A request of a run was never heard of again.',
    remedy: 'None: the next plan finds the tag again. If it stays, look for what was thrown in the log.',
  },
  ERR_INTERRUPTED: { meaning: 'The run was interrupted.', remedy: 'Run again: it goes on where it stood.' },
  ERR_CANCELLED: { meaning: 'The run was cancelled.', remedy: 'Start another run.' },
  ERR_INTERNAL: { meaning: 'A fault of hubferry.', remedy: 'Report it with the log.' },
} as const satisfies Record<string, { meaning: string; remedy: string }>;

export type ErrorCode = keyof typeof errorCodes;

export interface ErrorDetails {
  readonly cause?: unknown;
  /** Whether the same request may succeed when it is sent again. @default false */
  readonly retryable?: boolean;
  /** Not before this time, in milliseconds since the epoch (from `Retry-After` and its like). */
  readonly retryAt?: number | undefined;
}

/** The base of every error that hubferry throws on purpose: a stable `code`, and whether trying again can help. */
export class HubferryError extends Error {
  override readonly name: string = 'HubferryError';
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly retryAt: number | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.retryable = details.retryable ?? false;
    this.retryAt = details.retryAt;
  }
}

export interface ConfigPlace {
  readonly file?: string | undefined;
  /** Counted from 1. */
  readonly line?: number | undefined;
  /** The key's path, such as `rules[0].tags.include`. */
  readonly path?: string | undefined;
}

/** What can be known to be wrong without a request: command line, files, variables (exit 2). */
export class ConfigError extends HubferryError {
  override readonly name = 'ConfigError';
  readonly file: string | undefined;
  readonly line: number | undefined;
  readonly path: string | undefined;

  constructor(code: ErrorCode, message: string, place: ConfigPlace = {}, details: ErrorDetails = {}) {
    super(code, message, details);
    this.file = place.file;
    this.line = place.line;
    this.path = place.path;
  }

  /** Where it is, to be put before the message: `sync.yaml:5: rules[0].tags: `; empty where it is in no file. */
  get where(): string {
    const place = [this.file, this.line].filter((part) => part !== undefined).join(':');
    return [place, this.path]
      .filter(Boolean)
      .map((part) => `${part}: `)
      .join('');
  }
}

export interface ExchangeFacts {
  readonly method: string;
  /** Already redacted: no query, no user information. */
  readonly url: string;
  readonly status?: number | undefined;
  /** `errors[].code` of the answer, as the registry gave them. */
  readonly registryCodes?: readonly string[] | undefined;
}

/** A failed exchange with a registry, a token service or a web API. */
export class RegistryError extends HubferryError {
  override readonly name = 'RegistryError';
  readonly method: string;
  readonly url: string;
  readonly status: number | undefined;
  readonly registryCodes: readonly string[];

  constructor(code: ErrorCode, message: string, facts: ExchangeFacts, details: ErrorDetails = {}) {
    super(code, message, details);
    this.method = facts.method;
    this.url = facts.url;
    this.status = facts.status;
    this.registryCodes = facts.registryCodes ?? [];
  }
}

/** No pulls are left to the login at a source that counts them: a matter of its account, not of the host. */
export class PullLimitError extends HubferryError {
  override readonly name = 'PullLimitError';

  constructor(cause: HubferryError) {
    super('ERR_RATE_LIMITED', cause.message, { cause, retryable: true, retryAt: cause.retryAt });
  }
}

/** The code of any thrown value; `ERR_INTERNAL` for what hubferry did not throw itself. */
export function codeOf(error: unknown): ErrorCode {
  return error instanceof HubferryError ? error.code : 'ERR_INTERNAL';
}

/** A registry's own paths are shorter; of a longer one there is still place for what happened. */
const longestPath = 512;

/** A URL fit for people: without user information, query and fragment, where secrets and signatures live. */
export function redactUrl(url: string | URL): string {
  const parsed = typeof url === 'string' ? (URL.canParse(url) ? new URL(url) : undefined) : url;
  if (parsed === undefined) return '(not a URL)';
  return `${parsed.protocol}//${parsed.host}${shortPath(parsed.pathname)}`;
}

/** Redacted before it is cut: a few characters of a secret are no longer known as one. */
function shortPath(path: string): string {
  return path.length > longestPath ? `${redact(path).slice(0, longestPath)}…` : path;
}

const secretShapes: readonly [RegExp, string][] = [
  [/\b(Bearer|Basic)\s+[A-Za-z0-9+/=._~-]{6,}/gi, '$1 ***'],
  // The beginning of a JWT is enough: to look for its dots from each place that may be one takes quadratic time.
  [/\beyJ[\w-]{5,}(\.[\w-]+){0,2}/g, '***'],
  [/\b(sig|code|access_token|refresh_token|password|AccountKey|SharedAccessSignature)=[^&\s"']+/gi, '$1=***'],
  [/(\/\/)[^/\s:@]+:[^/\s@]+@/g, '$1***@'],
];

/** Of a longer text only the beginning is looked at, and shown. */
const longestText = 16 * 1024;
/** What begins so near to where a text was cut may be a secret that is no longer known as one. */
const unsureEnd = 1024;

/** Takes secrets, and what looks like one, out of a text that goes to a log, a report, a message or a person. */
export function redact(text: string): string {
  if (text.length > longestText) return `${redact(text.slice(0, longestText)).slice(0, -unsureEnd)}…`;
  let out = withoutSecrets(text);
  for (const [shape, replacement] of secretShapes) out = out.replace(shape, replacement);
  return out;
}

export interface ErrorSummary {
  readonly code: ErrorCode;
  readonly message: string;
}

/** `{code, message}` for reports: one line, redacted, without a stack. */
export function summarize(error: unknown): ErrorSummary {
  const message = error instanceof Error ? error.message : String(error);
  return { code: codeOf(error), message: redact(message).replace(/\s+/g, ' ').trim().slice(0, 1000) };
}
