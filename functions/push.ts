import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { pushRequestSchema } from '../lib/sync/request.ts';
import { eventsOf } from './log.ts';

app.storageQueue('push', {
  queueName: 'push-requests',
  connection: 'HubferryStorage',
  handler: async (message, context) => {
    const request = pushRequestSchema.parse(message);
    const worker = await getService().worker(eventsOf(context));
    await (request.kind === 'fan-out' ? worker.fanOut(request) : worker.copy(request, 'push'));
  },
});
