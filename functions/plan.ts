import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { planRequestSchema } from '../lib/sync/request.ts';
import { eventsOf } from './log.ts';

app.storageQueue('plan', {
  queueName: 'plan-requests',
  connection: 'HubferryStorage',
  handler: async (message, context) => {
    const request = planRequestSchema.parse(message);
    const { worker } = await getService().engine(eventsOf(context));
    await worker.plan(request);
  },
});
