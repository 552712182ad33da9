import { HubferryError } from '../errors.ts';
import { failureOf, isRecord, parseJson } from './failure.ts';
import { headersOf, parseNextLink } from './headers.ts';
import type { TransportResponse } from './send.ts';

/** Where a listing stands; it survives a restart. */
export interface PageCursor {
  /** The page to be asked for, absolute. */
  readonly url: string;
  /** Pages before it. */
  readonly pages: number;
  /** An earlier page, by which a listing that goes round in circles is found (Brent's algorithm). */
  readonly mark: string;
}

/** Far above any listing: a hundred thousand tags are a hundred pages. */
const maxPages = 20_000;

/**
 * The page after this one, by the answer's `Link` alone: a short page says nothing (distribution-spec v1.1 "Listing Tags").
 * @throws ERR_LISTING_INCOMPLETE where it leads to another host, or in circles.
 */
export function nextPage(current: PageCursor, response: TransportResponse): PageCursor | undefined {
  const link = parseNextLink(headersOf(response.headers, 'link'));
  if (link === undefined) return undefined;
  const url = URL.canParse(link, response.url) ? new URL(link, response.url) : undefined;
  if (url === undefined || url.origin !== new URL(response.url).origin) {
    throw incomplete('The listing goes on at another host', response);
  }
  return advance(current, url, response);
}

/**
 * The cursor of a page that this answer leads to.
 * @throws ERR_LISTING_INCOMPLETE where the listing goes round in circles.
 */
export function advance(current: PageCursor, url: URL, response: TransportResponse): PageCursor {
  const pages = current.pages + 1;
  const isPowerOfTwo = (pages & (pages - 1)) === 0;
  const mark = isPowerOfTwo ? current.url : current.mark;
  if (url.href === mark || url.href === current.url || pages > maxPages) {
    throw incomplete('The listing repeats itself', response);
  }
  return { url: url.href, pages, mark };
}

function incomplete(what: string, response: TransportResponse): HubferryError {
  return failureOf(what, response, { code: 'ERR_LISTING_INCOMPLETE' });
}

export function formatCursor({ url, pages, mark }: PageCursor): string {
  return JSON.stringify({ url, pages, mark });
}

/** @throws ERR_LISTING_INCOMPLETE for what is no cursor of this registry. */
export function parseCursor(text: string, origin: string): PageCursor {
  const value = parseJson(Buffer.from(text));
  if (isRecord(value)) {
    const { url, pages, mark } = value;
    const isOurs = typeof url === 'string' && URL.canParse(url) && new URL(url).origin === origin;
    if (isOurs && typeof mark === 'string' && Number.isSafeInteger(pages))
      return { url, mark, pages: Number(pages) };
  }
  throw new HubferryError(
    'ERR_LISTING_INCOMPLETE',
    `The listing cannot go on at ${origin}: its cursor is not valid`,
  );
}
