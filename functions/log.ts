/** Structured logs: one JSON line a decision, through the invocation that made it. */
import type { InvocationContext } from '@azure/functions';
import { createLogger, logEvent } from '../lib/log.ts';
import type { LogLevel, OnEvent } from '../lib/sync/runs/events.ts';

export function eventsOf(context: InvocationContext): OnEvent {
  const write = (line: string, level: LogLevel) => context[level](line);
  const logger = createLogger({ level: 'info', format: 'json', write });
  return (event) => logEvent(logger, event);
}
