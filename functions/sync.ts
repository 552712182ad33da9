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
    const run = service.runFor('manual', new Date());
    const requests = await (await service.worker(eventsOf(context))).start(run, 'manual', manual);
    return { status: 202, headers: { Location: `/api/status/${run}` }, jsonBody: { run, requests } };
  } catch (error) {
    return refusal(error);
  }
}
