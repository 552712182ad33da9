/**
 * Patterns over tags: globs, and regular expressions in RE2's syntax. Both run on RE2, in time linear in the tag:
 * whoever may write rules cannot stop the process with one.
 */
import { RE2JS } from 're2js';
import type { TagPattern } from '../../config/model.ts';
import { HubferryError } from '../../errors.ts';

export type TagTest = (tag: string) => boolean;

/** Longer ones are mistakes; RE2 itself bounds repetitions. */
const maxLength = 1024;
/** What may match anywhere in a tag is written with more around it where it has to match the whole (see config/convert.ts). */
const maxUnanchored = 1000;
/** Instructions of a compiled expression: what one character of a tag can cost. */
const maxProgram = 4096;

/** Reads a pattern as rules write it: `/expression/`, else a glob. The whole name is to match. */
export function parsePattern(text: string): TagPattern {
  const isRegex = text.length > 1 && text.startsWith('/') && text.endsWith('/');
  return isRegex
    ? { kind: 'regex', text: text.slice(1, -1), anchored: true }
    : { kind: 'glob', text, anchored: true };
}

/** The pattern as rules write it. */
export function formatPattern(pattern: TagPattern): string {
  return pattern.kind === 'regex' ? `/${pattern.text}/` : pattern.text;
}

/** Whether a text has what makes it a glob and no tag. */
export function isGlob(text: string): boolean {
  return /[*?[]/.test(text);
}

/** @throws ERR_CONFIG for a pattern that is malformed, too long, or can match no tag */
export function compilePattern(pattern: TagPattern): TagTest {
  if (pattern.text === '') throw invalid(pattern, 'it is empty');
  const most = pattern.anchored ? maxLength : maxUnanchored;
  if (pattern.text.length > most) throw invalid(pattern, `it is longer than ${most} characters`);
  const compiled = compile(pattern);
  if (compiled.programSize() > maxProgram) throw invalid(pattern, 'it is too complex');
  return pattern.anchored ? (tag) => compiled.testExact(tag) : (tag) => compiled.test(tag);
}

function compile(pattern: TagPattern): RE2JS {
  const expression = pattern.kind === 'glob' ? translateGlob(pattern) : pattern.text;
  try {
    return RE2JS.compile(expression);
  } catch (cause) {
    const why =
      cause instanceof Error ? cause.message.replace(/^error parsing regexp: /, '') : 'not RE2 syntax';
    throw invalid(pattern, why);
  }
}

function translateGlob(pattern: TagPattern): string {
  let out = '';
  let rest = pattern.text;
  while (rest !== '') {
    const token = globToken(rest);
    if (token === undefined) throw invalid(pattern, globFault(rest));
    out += token.expression;
    rest = rest.slice(token.length);
  }
  return out;
}

interface GlobToken {
  readonly length: number;
  readonly expression: string;
}

function globToken(rest: string): GlobToken | undefined {
  if (rest.startsWith('*')) return { length: (/^\*+/.exec(rest)?.[0] ?? '*').length, expression: '.*' };
  if (rest.startsWith('?')) return { length: 1, expression: '.' };
  const literal = /^[A-Za-z0-9_.-]+/.exec(rest)?.[0];
  if (literal !== undefined) return { length: literal.length, expression: RE2JS.quote(literal) };
  // A class of what tags are made of: "-" is a range between two, itself at an end; "." needs no escape inside.
  const set = /^\[([!^]?)([A-Za-z0-9_.-]+)\]/.exec(rest);
  if (set?.[2] === undefined) return undefined;
  return { length: set[0].length, expression: `[${set[1] === '' ? '' : '^'}${set[2]}]` };
}

function globFault(rest: string): string {
  if (rest.startsWith('[')) return 'its "[" is not closed by "]" around letters, digits, "_", "." or "-"';
  if (/^[{}|()+\\]/.test(rest)) {
    return `a glob knows *, ? and […], not ${JSON.stringify(rest[0])}: write a regular expression between slashes`;
  }
  return `no tag contains ${JSON.stringify(rest[0])}`;
}

function invalid(pattern: TagPattern, why: string): HubferryError {
  const shown = formatPattern(pattern);
  const text = shown.length > 100 ? `${shown.slice(0, 100)}…` : shown;
  const what = pattern.kind === 'glob' ? 'glob' : 'regular expression (RE2)';
  return new HubferryError('ERR_CONFIG', `${JSON.stringify(text)} is no ${what}: ${why}.`);
}
