import { HubferryError } from '../errors.ts';

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

/** Nesting of anything that the specifications define is below 8; recursion over what passed here is safe. */
const maxNesting = 32;

/**
 * Parses the bytes of a manifest: UTF-8 without a byte order mark, an object, not deep, and no key twice, of which
 * `JSON.parse` would keep the last and others the first.
 * @throws ERR_MANIFEST_INVALID, whose message is what is to be said of the manifest: "is no JSON".
 */
export function parseJsonObject(bytes: Uint8Array): JsonObject {
  const text = decode(bytes);
  const value = parse(text);
  if (!isObject(value)) throw invalid('is no JSON object');
  checkStructure(text);
  return value;
}

/** Writes JSON in the one form of RFC 8785: no space, keys in the order of their UTF-16 code units. */
export function canonicalJson(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(',')}}`;
}

function isObject(value: Json): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw invalid('is no UTF-8 text', cause);
  }
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    // The parser's own message quotes the text: it is content of others, and may be long.
    throw invalid('is no JSON');
  }
}

/** Walks over valid JSON and refuses depth, keys given twice, and the one key that can change an object's prototype. */
function checkStructure(text: string): void {
  const open: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '{' || char === '[') {
      open.push(new Set());
      if (open.length > maxNesting) throw invalid(`is nested deeper than ${maxNesting} levels`);
    } else if (char === '}' || char === ']') {
      open.pop();
    } else if (char === '"') {
      const end = endOfString(text, at);
      if (isKey(text, end)) addKey(open.at(-1), JSON.parse(text.slice(at, end + 1)) as string);
      at = end;
    }
  }
}

function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  while (isEscaped(text, end)) end = text.indexOf('"', end + 1);
  return end;
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0;
  while (text[at - 1 - backslashes] === '\\') backslashes++;
  return backslashes % 2 === 1;
}

function isKey(text: string, endOfString: number): boolean {
  let next = endOfString + 1;
  while (/[ \t\r\n]/.test(text[next] ?? '')) next++;
  return text[next] === ':';
}

function addKey(keys: Set<string> | undefined, key: string): void {
  if (key === '__proto__') throw invalid('has a key "__proto__"');
  if (keys?.has(key)) throw invalid(`has the key ${JSON.stringify(key.slice(0, 100))} twice`);
  keys?.add(key);
}

function invalid(what: string, cause?: unknown): HubferryError {
  return new HubferryError('ERR_MANIFEST_INVALID', what, { cause });
}
