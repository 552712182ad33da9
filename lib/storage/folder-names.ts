/**
 * Keys as paths that mean the same on every file system: lower case (case may not count), ASCII (Unicode may be
 * normalised), short names, and no name that Windows keeps for itself.
 *
 * Each `/` of a key is a directory whose name ends in `+`, so that `a` and `a/b` can both be documents. A segment that is
 * too long for a name goes on in a directory whose name ends in `~`.
 */
import { join } from 'node:path';

/** File systems take 255; some room is left for marks. */
const longestName = 180;

/** The path of a document, relative to its container. */
export function encodeKey(key: string): string {
  const segments = key.split('/');
  const leaf = segments.pop() ?? '';
  return join(...segments.flatMap(encodeDirectory), ...encodeSegment(leaf));
}

/** The names of the directories, from the container down, that all keys with this prefix are in. */
export function encodePrefix(prefix: string): string[] {
  return prefix.split('/').slice(0, -1).flatMap(encodeDirectory);
}

/** The key that a path stands for, from its names; `undefined` for what did not come from a key. */
export function decodeNames(names: readonly string[]): string | undefined {
  const encoded = names.map((name) => (name.endsWith('~') ? name.slice(0, -1) : name.replace(/\+$/, '/')));
  try {
    return decodeURIComponent(encoded.join(''));
  } catch {
    return undefined;
  }
}

function encodeDirectory(segment: string): string[] {
  const names = encodeSegment(segment);
  return [...names.slice(0, -1), `${names.at(-1)}+`];
}

const foreignToFileSystems = /[A-Z!~*'()]|\.$/g;
const deviceOfWindows = /^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)/;

function encodeSegment(segment: string): string[] {
  const name = encodeURIComponent(segment)
    .replace(/%../g, (escaped) => escaped.toLowerCase())
    .replace(foreignToFileSystems, percent)
    .replace(deviceOfWindows, (device) => percent(device.charAt(0)) + device.slice(1));
  const pieces = name.match(new RegExp(`.{1,${longestName}}`, 'g')) ?? [];
  return pieces.map((piece, index) => (index < pieces.length - 1 ? `${piece}~` : piece));
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}
