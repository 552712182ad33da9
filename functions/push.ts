import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { pushRequestSchema } from '../lib/sync/request.ts';
import { eventsOf } from './log.ts';

app.storageQueue('push', {
  queueName: 'push-requests',
  connection: 'HubferryStorage',
  handler: async (message, context) => {
    const request = pushRequestSchema.parse(message);
    const { dispatcher, worker } = await getService().engine(eventsOf(context));
    await (request.kind === 'fan-out' ? dispatcher.fanOut(request) : worker.copy(request, 'push'));
  },
});
