import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { eventsOf } from './log.ts';

app.timer('release', {
  schedule: '0 * * * * *',
  handler: async (_timer, context) => {
    await getService().release(eventsOf(context));
  },
});
