import { app, type HttpRequest, type HttpResponseInit, type InvocationContext } from '@azure/functions';
import { parsePushEvent } from '../lib/dockerhub/push-event.ts';
import { getService } from '../lib/service.ts';
import { bodyOf, refusal } from './http.ts';
import { eventsOf } from './log.ts';

app.http('webhook', { methods: ['POST'], authLevel: 'function', route: 'webhook', handler: webhook });

async function webhook(request: HttpRequest, context: InvocationContext): Promise<HttpResponseInit> {
  try {
    const push = parsePushEvent(await bodyOf(request));
    const now = new Date();
    const told = {
      repository: `docker.io/${push.repository}`,
      tag: push.tag,
      pushedAt: push.pushedAt ?? now.getTime(),
    };
    return { status: 202, jsonBody: await getService().push(told, eventsOf(context)) };
  } catch (error) {
    return refusal(error);
  }
}
