import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { eventsOf } from './log.ts';

app.timer('schedule', {
  schedule: '%SYNC_SCHEDULE%',
  handler: async (_timer, context) => {
    const service = getService();
    const { dispatcher } = await service.engine(eventsOf(context));
    await dispatcher.start(service.runFor('schedule', new Date()), 'schedule', {
      dryRun: false,
      force: false,
    });
  },
});
