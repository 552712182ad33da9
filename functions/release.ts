import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { eventsOf } from './log.ts';

app.timer('release', {
  schedule: '0 * * * * *',
  handler: async (_timer, context) => {
    const service = getService();
    if (!(await service.isPaused())) await (await service.worker(eventsOf(context))).release();
  },
});
