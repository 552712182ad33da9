import { RegistryError, redactUrl } from '../errors.ts';
import { headerOf } from './headers.ts';
import type { Outgoing, SendOutgoing, TransportResponse } from './send.ts';

const maxRedirects = 5;
const redirectStatuses: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Follows where a GET or HEAD is sent to, and leaves the credentials behind where that is another host. */
export function withRedirects(next: SendOutgoing): SendOutgoing {
  return async (first) => {
    let request = first;
    for (let hops = 0; ; hops++) {
      const response = await next(request);
      if (!isFollowed(request, response)) return response;
      response.body.dump();
      if (hops === maxRedirects) throw refused(request, `more than ${maxRedirects} redirects`);
      request = redirected(request, response);
    }
  };
}

function isFollowed(
  { method, followRedirects = true }: Outgoing,
  { status, headers }: TransportResponse,
): boolean {
  const reads = method === 'GET' || method === 'HEAD';
  return (
    reads && followRedirects && redirectStatuses.has(status) && headerOf(headers, 'location') !== undefined
  );
}

function redirected(request: Outgoing, response: TransportResponse): Outgoing {
  const url = targetOf(request, response);
  const { authorization, ...headers } = request.headers;
  if (authorization === undefined || url.origin !== request.url.origin) return { ...request, url, headers };
  return { ...request, url };
}

function targetOf(request: Outgoing, response: TransportResponse): URL {
  const location = headerOf(response.headers, 'location') ?? '';
  if (!URL.canParse(location, response.url)) throw refused(request, 'a Location that is no URL');
  const url = new URL(location, response.url);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw refused(request, `a redirect to ${url.protocol}`);
  if (url.protocol === 'http:' && request.url.protocol === 'https:') {
    throw refused(request, `a redirect to plain HTTP, ${redactUrl(url)}`);
  }
  return url;
}

function refused({ method, url }: Outgoing, what: string): RegistryError {
  const shown = redactUrl(url);
  return new RegistryError('ERR_REDIRECT', `${method} ${shown} is refused: ${what}`, { method, url: shown });
}
