import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { eventsOf } from './log.ts';

app.timer('verify', {
  schedule: '%VERIFY_SCHEDULE%',
  handler: async (_timer, context) => {
    const service = getService();
    const { dispatcher } = await service.engine(eventsOf(context));
    const request = { dryRun: false, force: false, verify: true };
    await dispatcher.start(service.runFor('verify', new Date()), 'verify', request);
  },
});
