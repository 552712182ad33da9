import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { copyRequestSchema } from '../lib/sync/request.ts';
import { eventsOf } from './log.ts';

app.storageQueue('copy', {
  queueName: 'copy-requests',
  connection: 'HubferryStorage',
  handler: async (message, context) => {
    const request = copyRequestSchema.parse(message);
    const { worker } = await getService().engine(eventsOf(context));
    await worker.copy(request, 'copy');
  },
});
