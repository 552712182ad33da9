import type { Environment } from '../config/variables.ts';
import { ConfigError, summarize } from '../errors.ts';
import { createLogger, type Logger, logEvent } from '../log.ts';
import type { OnEvent } from '../sync/runs/events.ts';
import type { OutputOptions } from './arguments.ts';
import { paintFor } from './format.ts';
import { openLogFile } from './log-file.ts';
import { renderError } from './output.ts';
import { type Progress, showProgress, tellProgress } from './progress.ts';

/** A stream that people or programs read: `process.stdout` and `process.stderr` are such. */
export interface Output {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

/** What the command line has of its process. */
export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: Environment;
  /** Aborted by Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  readonly version: string;
}

/** The logs and the progress of one command. */
export interface Session {
  readonly onEvent: OnEvent;
  /** Tells of the error by which the command fails: to people as they read it, to programs as a line of the log. */
  fail(error: unknown): void;
  /** Takes the progress view away and closes the log's file. */
  close(): void;
}

/** @throws ERR_USAGE when the file of `--log` cannot be opened */
export function openSession(output: OutputOptions, io: Io, watched: boolean): Session {
  const { log, logLevel: level, logFormat: format } = output;
  const file = log === undefined ? undefined : openLogFile(log, (message) => logger.warn(message));
  const progress: Progress =
    watched && canDraw(output, io)
      ? showProgress(io.stderr)
      : tellProgress(io.stderr, (fields) => logger.info('progress', fields));
  const toFile = (line: string): void => file?.write(line);
  const toAll = (line: string): void => {
    progress.print(line);
    toFile(line);
  };
  const logger = createLogger({ level, format, write: toAll });
  return {
    onEvent: (event) => {
      progress.onEvent(event);
      logEvent(logger, event);
    },
    fail: (error) => {
      // For the report of a fault; people see the message alone.
      if (error instanceof Error) logger.debug(error.stack ?? error.message);
      if (format === 'text') progress.print(renderError(error, paintFor(io.stderr, io.env)).trimEnd());
      logError(format === 'text' ? createLogger({ level, format, write: toFile }) : logger, error);
    },
    close: () => {
      progress.stop();
      file?.close();
    },
  };
}

/** The view needs a terminal that moves its cursor; JSON logs are for programs. */
function canDraw({ logFormat }: OutputOptions, { stderr, env }: Io): boolean {
  return stderr.isTTY === true && env.TERM !== 'dumb' && logFormat === 'text';
}

function logError(logger: Logger, error: unknown): void {
  const { code, message } = summarize(error);
  const { file, line, path } = error instanceof ConfigError ? error : {};
  logger.error(message, { code, file, line, path });
}
