/**
 * What stands for SOURCE and TARGET, in rules as on the command line (interface: `repo`, `repo:tag`, `repo:t1,t2`,
 * `repo:GLOB`, `repo:/regex/`, `repo@digest`, and `namespace/*`).
 */
import { HubferryError } from '../errors.ts';
import { formatRepository, isTag, parseReference, parseRepository } from '../oci/reference.ts';
import { isNamespace } from '../sync/select/namespace.ts';
import { compilePattern, formatPattern, isGlob, parsePattern } from '../sync/select/pattern.ts';
import type { RepositoryName, RuleSource, RuleTarget, SourceSelector, TagPattern } from './model.ts';

/** @throws ERR_REFERENCE, ERR_CONFIG */
export function parseSource(text: string): RuleSource {
  const { name, choice } = splitForm(text);
  if (name.includes('@')) {
    // As in image-syncer, `repo:tag@digest` means the digest.
    const { host, path, digest } = parseReference(text);
    return { host, path, selector: digest === undefined ? { kind: 'all' } : { kind: 'digest', digest } };
  }
  const repository = parseName(name);
  if (isNamespace(repository) && choice !== undefined) {
    throw wrong(`${JSON.stringify(text)} names tags for a whole namespace: choose them with the key tags.`);
  }
  return { ...repository, selector: parseSelector(choice) };
}

/** Reads a target for this source. @throws ERR_REFERENCE, ERR_CONFIG where the two do not fit */
export function parseTarget(text: string, source: RuleSource): RuleTarget {
  const { selector, host, path } = parseSource(text);
  const target = { host, path };
  if (isNamespace(target) !== isNamespace(source)) {
    throw wrong('A source namespace/* goes to a target prefix/*, and only such a source does.');
  }
  switch (selector.kind) {
    case 'all':
      return target;
    case 'tags':
      checkTags(selector.tags, source.selector);
      return { ...target, tags: selector.tags };
    case 'pattern':
    case 'digest':
      if (formatSelector(selector) === formatSelector(source.selector)) return target;
      throw wrong(`A target ends in tags, or as its source does: leave out ${formatSelector(selector)}.`);
  }
}

/** Canonical text of a source, which `parseSource` reads back. */
export function formatSource(source: RuleSource): string {
  return formatRepository(source) + formatSelector(source.selector);
}

/** Canonical text of a target. */
export function formatTarget(target: RuleTarget): string {
  return formatRepository(target) + (target.tags === undefined ? '' : `:${target.tags.join(',')}`);
}

function splitForm(text: string): { name: string; choice: string | undefined } {
  const end = endOfName(text);
  if (end === -1) return { name: text, choice: undefined };
  return { name: text.slice(0, end), choice: text.slice(end + 1) };
}

function endOfName(text: string): number {
  const expression = text.search(/:\/(?!\/)/);
  if (expression !== -1) return expression;
  return text.includes('@') ? -1 : text.indexOf(':', text.lastIndexOf('/') + 1);
}

function parseName(name: string): RepositoryName {
  if (!name.endsWith('/*')) return parseRepository(name);
  const namespace = name.slice(0, -2);
  // Read with a repository in the place of the star, as every name is: that also finds the host of short names.
  const { host, path } = parseRepository(`${namespace}/x`);
  if (path === 'library/x' && !namespace.endsWith('library')) {
    throw wrong(`${JSON.stringify(name)} names no namespace.`);
  }
  return { host, path: `${path.slice(0, -1)}*` };
}

function parseSelector(choice: string | undefined): SourceSelector {
  if (choice === undefined) return { kind: 'all' };
  if (choice.startsWith('/') || isGlob(choice)) return { kind: 'pattern', pattern: readPattern(choice) };
  const tags = choice.split(',');
  const bad = tags.find((tag) => !isTag(tag));
  if (bad === undefined) return { kind: 'tags', tags };
  throw wrong(`${JSON.stringify(bad.slice(0, 150))} is no tag: up to 128 letters, digits, "_", "." and "-".`);
}

function readPattern(choice: string): TagPattern {
  const pattern = parsePattern(choice);
  if (pattern.kind === 'glob' && choice.startsWith('/')) {
    throw wrong(`The regular expression ${JSON.stringify(choice.slice(0, 100))} must end with a slash.`);
  }
  if (pattern.kind === 'glob' && choice.includes(',')) {
    throw wrong('A source has a list of tags or one glob: list several globs under tags.include.');
  }
  compilePattern(pattern);
  return pattern;
}

function checkTags(tags: readonly string[], selector: SourceSelector): void {
  if (selector.kind === 'all' || selector.kind === 'pattern') {
    throw wrong('A target has tags only where its source lists as many: here every tag keeps its name.');
  }
  const expected = selector.kind === 'digest' ? 1 : selector.tags.length;
  if (tags.length !== expected) {
    throw wrong(`The target has ${count(tags.length)} for ${count(expected)} of the source.`);
  }
  // A plan gives each tag of the source one name at the target.
  if (selector.kind === 'tags' && new Set(selector.tags).size < expected) {
    throw wrong('The source lists a tag twice: give it its other name in another target.');
  }
}

function count(tags: number): string {
  return tags === 1 ? '1 tag' : `${tags} tags`;
}

function formatSelector(selector: SourceSelector): string {
  switch (selector.kind) {
    case 'all':
      return '';
    case 'tags':
      return `:${selector.tags.join(',')}`;
    case 'pattern':
      return `:${formatPattern(selector.pattern)}`;
    case 'digest':
      return `@${selector.digest}`;
  }
}

function wrong(message: string): HubferryError {
  return new HubferryError('ERR_CONFIG', message);
}
