import { app, type HttpResponseInit } from '@azure/functions';
import { findingOf } from '../lib/doctor.ts';
import { getService } from '../lib/service.ts';

app.http('health', { methods: ['GET'], authLevel: 'function', route: 'health', handler: health });

async function health(): Promise<HttpResponseInit> {
  try {
    const findings = await getService().health(AbortSignal.timeout(120_000));
    const healthy = findings.every(({ status }) => status !== 'failed');
    return { status: healthy ? 200 : 503, jsonBody: { healthy, findings } };
  } catch (error) {
    return { status: 503, jsonBody: { healthy: false, findings: [findingOf('settings', error)] } };
  }
}
