import { app, type HttpRequest, type HttpResponseInit } from '@azure/functions';
import { HubferryError } from '../lib/errors.ts';
import { parseControlRequest } from '../lib/manual.ts';
import { getService } from '../lib/service.ts';
import { bodyOf, refusal } from './http.ts';

app.http('control', { methods: ['POST'], authLevel: 'function', route: 'control', handler: control });

async function control(request: HttpRequest): Promise<HttpResponseInit> {
  try {
    const { action } = parseControlRequest(await bodyOf(request));
    if (action !== 'pause' && action !== 'resume') {
      throw new HubferryError('ERR_REQUEST_INVALID', `The action ${action} is not there yet`);
    }
    await getService().pause(action === 'pause');
    return { status: 200, jsonBody: { paused: action === 'pause' } };
  } catch (error) {
    return refusal(error);
  }
}
