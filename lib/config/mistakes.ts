/** Tells what zod finds in a document as a person needs it: where, what was expected, what is there. */
import type * as z from 'zod';
import type { ConfigError } from '../errors.ts';
import { type ConfigDocument, formatPath, type Path } from './document.ts';

interface Mistake {
  readonly path: Path;
  readonly line: number;
  readonly message: string;
}

const alsoShown = 9;

/** The value in the schema's form. @throws ConfigError for the first mistake, with the next ones in its message */
export function checkForm<Form>(document: ConfigDocument, schema: z.ZodType<Form>): Form {
  const result = schema.safeParse(document.value);
  if (result.success) return result.data;
  throw combine(document, result.error.issues);
}

function combine(document: ConfigDocument, issues: readonly z.core.$ZodIssue[]): ConfigError {
  const [first, ...rest] = withoutShadows(issues.map(deepest), document.value)
    .flatMap((issue) => toMistakes(document, issue))
    .toSorted((a, b) => a.line - b.line);
  if (first === undefined) return document.mistake([], 'The file is wrong.');
  const also = rest
    .slice(0, alsoShown)
    .map(({ path, line, message }) => ` Line ${line}, ${formatPath(path)}: ${message}`);
  return document.mistake(first.path, first.message + also.join(''));
}

/** Of the branches of a union, the one that understood most of the value. */
function deepest(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code !== 'invalid_union') return issue;
  const branches = issue.errors.flat().map((inner) => deepest(inner));
  const best = branches.toSorted((a, b) => b.path.length - a.path.length)[0];
  if (best === undefined || best.path.length === 0) return issue;
  return { ...best, path: [...issue.path, ...best.path] };
}

/** A missing key beside an unknown one is most likely the same key misspelt: that one is told. */
function withoutShadows(issues: readonly z.core.$ZodIssue[], value: unknown): readonly z.core.$ZodIssue[] {
  const withUnknownKeys = new Set(
    issues.filter(({ code }) => code === 'unrecognized_keys').map(({ path }) => JSON.stringify(path)),
  );
  return issues.filter(
    ({ path }) =>
      !(valueAt(value, path) === undefined && withUnknownKeys.has(JSON.stringify(path.slice(0, -1)))),
  );
}

function toMistakes(document: ConfigDocument, issue: z.core.$ZodIssue): readonly Mistake[] {
  const path = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part));
  if (issue.code === 'unrecognized_keys') {
    const lines = issue.message.split('\n');
    return issue.keys.map((key, index) => place(document, [...path, key], lines[index] ?? ''));
  }
  return [toMistake(document, issue, path)];
}

function toMistake(document: ConfigDocument, issue: z.core.$ZodIssue, path: Path): Mistake {
  const found = valueAt(document.value, path);
  if (found === undefined)
    return place(document, path, `The key ${path.at(-1)} is missing: expected ${issue.message}.`);
  return place(document, path, `Expected ${issue.message}${describe(found, issue)}.`);
}

function place(document: ConfigDocument, path: Path, message: string): Mistake {
  return { path, line: document.lineOf(path) ?? 1, message };
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let current = value;
  for (const part of path) {
    if (typeof current !== 'object' || current === null || !Object.hasOwn(current, part)) return undefined;
    current = Reflect.get(current, part);
  }
  return current;
}

/** What is there, where its kind is what is wrong. The value itself is not shown: it may be a password. */
function describe(found: unknown, issue: z.core.$ZodIssue): string {
  if (typeof found === 'string') return found === '' ? ', found an empty text' : '';
  if (found === null) return ', found nothing';
  if (Array.isArray(found)) return found.length === 0 ? ', found an empty list' : ', found a list';
  if (typeof found === 'object') return ', found a map';
  if (issue.code !== 'invalid_type') return '';
  const kind = typeof found === 'number' ? 'a number' : 'true or false';
  return `, found ${kind}${issue.expected === 'string' ? ': write it in quotes' : ''}`;
}
