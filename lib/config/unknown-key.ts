/** What a person is told of a key that a map does not know. */
import { nearest } from './nearest.ts';

/** With the known key that it most likely means, or with all of them. */
export function unknownKey(key: string, known: readonly string[]): string {
  return gluedKey(key, known) ?? `Unknown key ${JSON.stringify(key.slice(0, 100))}: ${remedyFor(key, known)}`;
}

/** As `unknownKey`, in a map that holds a login: what is no key there may be a part of a password. */
export function unknownKeyOfLogin(key: string, known: readonly string[]): string {
  if (meansKey(key, known)) return unknownKey(key, known);
  return gluedKey(key, known) ?? `An unknown key: ${remedyFor(key, known)}`;
}

/** Whether a key is one of these, or so near that it can be nothing else. */
export function meansKey(key: string, known: readonly string[]): boolean {
  return known.includes(key) || (/^[A-Za-z]{4,16}$/.test(key) && nearest(key, known) !== undefined);
}

function gluedKey(key: string, known: readonly string[]): string | undefined {
  const [, glued = ''] = /^(\w+) ?[:=]/.exec(key) ?? [];
  // The rest may be a password.
  return known.includes(glued)
    ? `Between ${glued} and its value a colon and a space are missing.`
    : undefined;
}

function remedyFor(key: string, known: readonly string[]): string {
  const meant = nearest(key, known);
  return meant === undefined ? `known are ${known.join(', ')}.` : `did you mean ${meant}?`;
}
