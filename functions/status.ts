import { app, type HttpRequest, type HttpResponseInit } from '@azure/functions';
import { HubferryError } from '../lib/errors.ts';
import { getService } from '../lib/service.ts';
import { refusal } from './http.ts';

app.http('status', { methods: ['GET'], authLevel: 'function', route: 'status/{run?}', handler: status });

async function status(request: HttpRequest): Promise<HttpResponseInit> {
  try {
    const { run } = request.params;
    const found = run === undefined ? await getService().status() : await getService().report(run);
    if (found === undefined) throw new HubferryError('ERR_RUN_UNKNOWN', 'There is no such run');
    return { status: 200, jsonBody: found };
  } catch (error) {
    return refusal(error);
  }
}
