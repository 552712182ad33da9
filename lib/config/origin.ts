/** Where configuration comes from, as far as mistakes in it are told: a file with its lines, or the command line. */
import { ConfigError, type ErrorCode, HubferryError } from '../errors.ts';
import type { Path } from './document.ts';

export interface Origin {
  /** The error for what is wrong at a path. @default code ERR_CONFIG for a file, ERR_USAGE for the command line */
  mistake(path: Path, message: string, code?: ErrorCode): ConfigError;
  /** Where a path stands, counted from 1; `undefined` on the command line. */
  lineOf(path: Path): number | undefined;
}

/** Mistakes in SOURCE, TARGET and options: the path's first part names which. */
export const commandLine: Origin = {
  mistake: (path, message, code = 'ERR_USAGE') => new ConfigError(code, message, { path: String(path[0]) }),
  lineOf: () => undefined,
};

/** Errors that say more of the cause than that the file is wrong. */
const telling: ReadonlySet<ErrorCode> = new Set(['ERR_VARIABLE_UNSET', 'ERR_SECRET_UNRESOLVED']);

/** Runs a reader, and gives its error the place. */
export function readAt<Value>(origin: Origin, path: Path, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof HubferryError) || error instanceof ConfigError) throw error;
    throw origin.mistake(path, error.message, telling.has(error.code) ? error.code : undefined);
  }
}
