import { app, type HttpRequest, type HttpResponseInit, type InvocationContext } from '@azure/functions';
import { parseManualRequest } from '../lib/manual.ts';
import { getService } from '../lib/service.ts';
import { bodyOf, refusal } from './http.ts';
import { eventsOf } from './log.ts';

app.http('sync', { methods: ['POST'], authLevel: 'function', route: 'sync', handler: sync });

async function sync(request: HttpRequest, context: InvocationContext): Promise<HttpResponseInit> {
  try {
    const manual = parseManualRequest(await bodyOf(request));
    const service = getService();
    const { dispatcher } = await service.engine(eventsOf(context));
    const begun = await dispatcher.start(service.runFor('manual', new Date()), 'manual', manual);
    return { status: 202, headers: { Location: `/api/status/${begun.run}` }, jsonBody: begun };
  } catch (error) {
    return refusal(error);
  }
}
