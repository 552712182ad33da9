import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { copyRequestSchema, planRequestSchema, pushRequestSchema } from '../lib/sync/request.ts';
import type { SyncEvent } from '../lib/sync/runs/events.ts';
import { eventsOf } from './log.ts';

const schemas = { plan: planRequestSchema, push: pushRequestSchema, copy: copyRequestSchema };

for (const queue of ['plan', 'push', 'copy'] as const) {
  app.storageQueue(`${queue}Poison`, {
    queueName: `${queue}-requests-poison`,
    connection: 'HubferryStorage',
    handler: async (message, context) => {
      const onEvent = eventsOf(context);
      const request = schemas[queue].safeParse(message);
      if (!request.success) return onEvent(dropped(request.error));
      const { worker } = await getService().engine(onEvent);
      await worker.poison(request.data, queue);
    },
  });
}

function dropped(error: Error): SyncEvent {
  const fields = { code: 'ERR_REQUEST_INVALID', error: error.message };
  return { type: 'log', level: 'error', message: 'A message that is no request was dropped', fields };
}
