import { closeSync, openSync, writeSync } from 'node:fs';
import { ConfigError } from '../errors.ts';
import { reasonOf } from './file-error.ts';

export interface LogFile {
  write(line: string): void;
  close(): void;
}

/**
 * Opens the file of `--log` for appending, readable by its owner alone: earlier runs stay in it. A write that fails
 * later (a full disk) is told once and ends the file, not the run.
 * @throws ERR_USAGE when the file cannot be opened
 */
export function openLogFile(path: string, onFailure: (message: string) => void): LogFile {
  let file: number | undefined = open(path);
  const close = (): void => {
    if (file !== undefined) closeSync(file);
    file = undefined;
  };
  return {
    write: (line) => {
      if (file === undefined) return;
      try {
        writeSync(file, `${line}\n`);
      } catch (error) {
        close();
        onFailure(`--log: the file can no longer be written: ${reasonOf(error)}.`);
      }
    },
    close,
  };
}

function open(path: string): number {
  try {
    return openSync(path, 'a', 0o600);
  } catch (error) {
    const message = `--log: the file cannot be opened: ${reasonOf(error)}.`;
    throw new ConfigError('ERR_USAGE', message, { file: path }, { cause: error });
  }
}
