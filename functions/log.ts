/** Structured logs: one JSON line a decision, through the invocation that made it. */
import type { InvocationContext } from '@azure/functions';
import { createLogger, logEvent } from '../lib/log.ts';
import type { OnEvent } from '../lib/sync/events.ts';

export function eventsOf(context: InvocationContext): OnEvent {
  const logger = createLogger({ level: 'info', format: 'json', write: (line) => context.log(line) });
  return (event) => logEvent(logger, event);
}
