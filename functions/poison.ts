import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { copyRequestSchema, planRequestSchema, pushRequestSchema } from '../lib/sync/request.ts';
import { eventsOf } from './log.ts';

const schemas = { plan: planRequestSchema, push: pushRequestSchema, copy: copyRequestSchema };

for (const queue of ['plan', 'push', 'copy'] as const) {
  app.storageQueue(`${queue}Poison`, {
    queueName: `${queue}-requests-poison`,
    connection: 'HubferryStorage',
    handler: async (message, context) => {
      const request = schemas[queue].safeParse(message);
      if (!request.success)
        return context.error('A message that is no request was dropped', request.error.message);
      await (await getService().worker(eventsOf(context))).poison(request.data, queue);
    },
  });
}
