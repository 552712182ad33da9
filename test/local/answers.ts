/** Answers that every registry gives. */
import type { OutgoingHttpHeaders } from 'node:http';
import { type Answer, replyJson } from './server.ts';

/** An error in the form of distribution-spec v1.1, "Error Codes". */
export function replyError(
  status: number,
  code: string,
  message: string,
  headers: OutgoingHttpHeaders = {},
): Answer {
  return replyJson(status, { errors: [{ code, message, detail: null }] }, headers);
}

export function notAllowed(): Answer {
  return replyError(405, 'UNSUPPORTED', 'the operation is unsupported');
}
