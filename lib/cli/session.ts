import type { Environment } from '../config/variables.ts';
import { createLogger, type Logger, logEvent } from '../log.ts';
import type { OnEvent } from '../sync/events.ts';
import type { OutputOptions } from './arguments.ts';
import { openLogFile } from './log-file.ts';
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
  readonly logger: Logger;
  readonly onEvent: OnEvent;
  /** Takes the progress view away and closes the log's file. */
  close(): void;
}

/** @throws ERR_USAGE when the file of `--log` cannot be opened */
export function openSession(output: OutputOptions, io: Io): Session {
  const file =
    output.log === undefined ? undefined : openLogFile(output.log, (message) => logger.warn(message));
  const progress = openProgress(output, io, (fields) => logger.info('progress', fields));
  const logger = createLogger({
    level: output.logLevel,
    format: output.logFormat,
    write: (line) => {
      progress.print(line);
      file?.write(line);
    },
  });
  return {
    logger,
    onEvent: (event) => {
      progress.onEvent(event);
      logEvent(logger, event);
    },
    close: () => {
      progress.stop();
      file?.close();
    },
  };
}

type Tell = Parameters<typeof tellProgress>[1];

/** The view needs a terminal that moves its cursor; JSON logs are for programs. */
function openProgress({ logFormat }: OutputOptions, { stderr, env }: Io, tell: Tell): Progress {
  const canDraw = stderr.isTTY === true && env.TERM !== 'dumb' && logFormat === 'text';
  return canDraw ? showProgress(stderr) : tellProgress(stderr, tell);
}
