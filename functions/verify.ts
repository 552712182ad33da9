import { app } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { eventsOf } from './log.ts';

app.timer('verify', {
  schedule: '%VERIFY_SCHEDULE%',
  handler: async (_timer, context) => {
    await getService().verify(eventsOf(context), AbortSignal.timeout(8 * 60_000));
  },
});
