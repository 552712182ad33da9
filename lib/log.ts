/** Structured logs for the command line and the function app: one line a decision, no secret, no control character. */
import { redact } from './errors.ts';
import type { LogLevel, SyncEvent } from './sync/runs/events.ts';
import type { Line } from './sync/runs/report.ts';

export const logLevels = ['debug', 'info', 'warn', 'error'] as const satisfies readonly LogLevel[];
export const logFormats = ['text', 'json'] as const;
export type LogFormat = (typeof logFormats)[number];

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The level as a value, for what comes with one. */
  log(level: LogLevel, message: string, fields?: LogFields): void;
  /** Whether lines of this level are written: what is told of thousands of tags is not even put together otherwise. */
  writes(level: LogLevel): boolean;
  /** A logger that adds these fields to every line. */
  child(fields: LogFields): Logger;
}

export interface LoggerOptions {
  /** The lowest level that is written. */
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Takes one line, without its line break. */
  readonly write: (line: string, level: LogLevel) => void;
  /** On every line; a field of the call wins. */
  readonly fields?: LogFields;
  /** @default the clock */
  readonly now?: () => Date;
}

/** A logger that writes lines of one format from one level on. */
export function createLogger(options: LoggerOptions): Logger {
  const lowest = logLevels.indexOf(options.level);
  const format = options.format === 'json' ? formatJson : formatText;
  const now = options.now ?? (() => new Date());
  const writes = (level: LogLevel) => logLevels.indexOf(level) >= lowest;
  const log = (level: LogLevel, message: string, fields: LogFields = {}): void => {
    if (!writes(level)) return;
    const entry = {
      time: now().toISOString(),
      level,
      message: redact(message),
      fields: redactFields({ ...options.fields, ...fields }),
    };
    options.write(format(entry), level);
  };
  return {
    debug: (message, fields) => log('debug', message, fields),
    info: (message, fields) => log('info', message, fields),
    warn: (message, fields) => log('warn', message, fields),
    error: (message, fields) => log('error', message, fields),
    log,
    writes,
    child: (fields) => createLogger({ ...options, fields: { ...options.fields, ...fields } }),
  };
}

interface Entry {
  readonly time: string;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

function redactFields(fields: LogFields): LogFields {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, typeof value === 'string' ? redact(value) : value]),
  );
}

function formatJson({ time, level, message, fields }: Entry): string {
  const own = { time, level, message };
  // Spread twice: they come first, and no field passes for one of them.
  return escapeJson(JSON.stringify({ ...own, ...fields, ...own }));
}

function formatText({ time, level, message, fields }: Entry): string {
  const pairs = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${quote(String(value))}`);
  return escapeControls(`${time} ${level.toUpperCase().padEnd(5)} ${message}${pairs.join('')}`);
}

function quote(value: string): string {
  return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}

// What moves a terminal's cursor, breaks a line or reorders text: C0 and C1 controls, line and paragraph
// separators, the bidirectional controls of Unicode.
const controls = /[\p{Cc}\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]/gu;

const escapeOne = (character: string): string =>
  `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Text of others as one line that a terminal shows and never obeys. */
export function escapeControls(text: string): string {
  return text.replace(controls, escapeOne);
}

/** The same for JSON, where `JSON.stringify` leaves some of them raw; its own line breaks stay. */
export function escapeJson(json: string): string {
  return json.replace(controls, (character) => (character === '\n' ? character : escapeOne(character)));
}

const lineLevels: Readonly<Record<string, LogLevel>> = {
  copied: 'info',
  deleted: 'info',
  deferred: 'warn',
  locked: 'warn',
  moved: 'warn',
  missing: 'warn',
  incomplete: 'warn',
  extra: 'warn',
  failed: 'error',
};

/** Requests of the function app: what was asked for, or was parked, has to be seen to end. */
const requests: ReadonlySet<unknown> = new Set(['copy', 'push', 'delete']);

/** What a plan finds as it is to be, or to be done, is thousands of lines. */
function quietLevel(outcome: string, operation: unknown): LogLevel {
  const isAsked = outcome === 'unchanged' && requests.has(operation);
  return isAsked || outcome === 'skipped' || outcome === 'superseded' ? 'info' : 'debug';
}

/** Writes what a run tells: one line for each decision, the steps below it at `debug`. */
export function logEvent(logger: Logger, event: SyncEvent): void {
  switch (event.type) {
    case 'log':
      logger.log(event.level, event.message, event.fields);
      break;
    case 'line':
      logLine(logger, event.line, event.fields);
      break;
    case 'listing':
      logger.debug('listing', { rule: event.rule, tags: event.tags });
      break;
    case 'planned':
      logger.info('planned', { rule: event.rule, lines: event.lines });
      break;
    case 'waiting':
      logger.warn('waiting', { host: event.host, until: new Date(event.until).toISOString() });
      break;
    case 'blobStarted': {
      const { id, target, digest, size, offset } = event;
      logger.debug('blob started', { id, target, digest, size, offset });
      break;
    }
    case 'blobEnded':
      logger.debug('blob ended', { id: event.id, how: event.how });
      break;
    case 'blobProgress':
      break;
  }
}

function logLine(logger: Logger, line: Line, fields: LogFields = {}): void {
  const level = lineLevels[line.outcome] ?? quietLevel(line.outcome, fields.operation);
  if (!logger.writes(level)) return;
  const { rule, source, target, digest, targetDigest, reason, error, until, missing, bytes, durationMs } =
    line;
  logger.log(level, line.outcome, {
    ...fields,
    rule,
    source,
    target,
    digest,
    targetDigest,
    reason,
    code: error?.code,
    error: error?.message,
    until,
    missing: missing?.length,
    bytes,
    durationMs,
  });
}
