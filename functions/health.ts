import { app, type HttpResponseInit } from '@azure/functions';
import { getService } from '../lib/service.ts';
import { refusal } from './http.ts';

app.http('health', { methods: ['GET'], authLevel: 'function', route: 'health', handler: health });

async function health(): Promise<HttpResponseInit> {
  try {
    const findings = await getService().health(AbortSignal.timeout(60_000));
    const healthy = findings.every(({ status }) => status !== 'failed');
    return { status: healthy ? 200 : 503, jsonBody: { healthy, findings } };
  } catch (error) {
    return refusal(error);
  }
}
