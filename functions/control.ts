import { app, type HttpRequest, type HttpResponseInit, type InvocationContext } from '@azure/functions';
import { parseControlRequest } from '../lib/manual.ts';
import { getService } from '../lib/service.ts';
import { bodyOf, refusal } from './http.ts';
import { eventsOf } from './log.ts';

app.http('control', { methods: ['POST'], authLevel: 'function', route: 'control', handler: control });

async function control(request: HttpRequest, context: InvocationContext): Promise<HttpResponseInit> {
  try {
    const wish = parseControlRequest(await bodyOf(request));
    return { status: 200, jsonBody: await getService().control(wish, eventsOf(context)) };
  } catch (error) {
    return refusal(error);
  }
}
