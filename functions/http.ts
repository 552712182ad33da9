/** What HTTP functions have in common: JSON in, JSON out, and an error that says its code. */
import type { HttpRequest, HttpResponseInit } from '@azure/functions';
import { codeOf, summarize } from '../lib/errors.ts';

const maxBodyBytes = 64 * 1024;

export class BodyTooLarge extends Error {}

export async function bodyOf(request: HttpRequest): Promise<string> {
  const bytes = await request.arrayBuffer();
  if (bytes.byteLength > maxBodyBytes) throw new BodyTooLarge('The body is larger than 64 KiB');
  return Buffer.from(bytes).toString();
}

/** The caller's mistake is 400, what is not there 404; what hubferry lacks is 503: come again. */
export function refusal(error: unknown): HttpResponseInit {
  if (error instanceof BodyTooLarge)
    return { status: 400, jsonBody: { error: { code: 'ERR_REQUEST_INVALID', message: error.message } } };
  const statuses: Record<string, number> = { ERR_REQUEST_INVALID: 400, ERR_RUN_UNKNOWN: 404 };
  return { status: statuses[codeOf(error)] ?? 503, jsonBody: { error: summarize(error) } };
}
