/**
 * A YAML or JSON text as plain values, with the line of every key and value. Only the plain part of YAML: no tags,
 * no merge keys, each key once; nothing that grows beyond its text by much, nothing that reaches a prototype.
 */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  type Pair,
  parseDocument,
  type Scalar,
  type YAMLError,
} from 'yaml';
import { ConfigError, type ErrorCode } from '../errors.ts';
import { keysOfRegistry } from './schema.ts';
import { meansKey } from './unknown-key.ts';

export type Path = readonly (string | number)[];

/** A text with the name it is known by: a path, a blob, a setting. */
export interface ConfigText {
  readonly text: string;
  readonly file?: string | undefined;
}

export interface ConfigDocument {
  readonly value: unknown;
  /** The error for what is wrong at a path. The line is that of the key or value, else of what should contain it. */
  mistake(path: Path, message: string, code?: ErrorCode): ConfigError;
  /** Where a path stands, counted from 1. */
  lineOf(path: Path): number | undefined;
  /** The text of a scalar as it is written, where YAML would read a number, a truth value or nothing from it. */
  spelling(path: Path): string | undefined;
}

/** Some 20,000 rules. The parser needs about two hundred times as much memory. */
const maxLength = 2 * 1024 * 1024;
const maxDepth = 32;
/** Aliases repeat nodes; this bounds what they make of a text. */
const maxNodes = 200_000;

const plainTags = new Set(
  ['str', 'int', 'float', 'bool', 'null', 'map', 'seq'].map((name) => `tag:yaml.org,2002:${name}`),
);

/** @throws ERR_CONFIG for a text that is no plain YAML or JSON */
export function readDocument({ text, file }: ConfigText): ConfigDocument {
  if (text.length > maxLength)
    throw new ConfigError('ERR_CONFIG', 'The file is larger than 2 MiB.', { file });
  return new PlacedDocument(text, file);
}

/** `rules[0].tags.include`, `registries["docker.io"].username`. */
export function formatPath(path: Path): string {
  return shown(path).reduce<string>((out, part) => {
    if (typeof part === 'number') return `${out}[${part}]`;
    if (!/^[A-Za-z_]\w*$/.test(part)) return `${out}[${JSON.stringify(part)}]`;
    return out === '' ? part : `${out}.${part}`;
  }, '');
}

/** Where a value hangs: under its key, in a list, or on its own as the root. */
interface Spot {
  readonly key?: Node | undefined;
  readonly value?: Node | undefined;
}

class PlacedDocument implements ConfigDocument {
  readonly value: unknown;
  readonly #file: string | undefined;
  readonly #lines = new LineCounter();
  readonly #document: Document.Parsed;
  /** Anchors passed so far: finding one through the document takes as long as the document is. */
  readonly #anchors = new Map<string, Node>();
  #nodes = 0;

  constructor(text: string, file: string | undefined) {
    this.#file = file;
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      // Also under a `%YAML 1.1` directive: dates stay text.
      schema: 'core',
      merge: false,
      // Looked for in `#convertMap`, in linear time: the parser compares each key with each.
      uniqueKeys: false,
      prettyErrors: false,
    });
    const problem = this.#document.errors[0] ?? this.#document.warnings[0];
    if (problem !== undefined) {
      throw this.#error(
        this.#lineAt(problem.pos[0]),
        [],
        `This is no plain YAML or JSON: ${reasons[problem.code]}.`,
      );
    }
    if (this.#document.contents === null) throw this.#error(1, [], 'The file is empty.');
    this.value = this.#convert(this.#document.contents, []);
  }

  mistake(path: Path, message: string, code: ErrorCode = 'ERR_CONFIG'): ConfigError {
    return this.#error(this.lineOf(path), path, message, code);
  }

  lineOf(path: Path): number | undefined {
    for (let length = path.length; length >= 0; length--) {
      const spot = this.#find(path.slice(0, length));
      if (spot !== undefined) return this.#lineOfSpot(spot);
    }
    return undefined;
  }

  spelling(path: Path): string | undefined {
    const node = this.#resolve(this.#find(path)?.value);
    if (!isScalar(node)) return undefined;
    return node.source ?? String(node.value ?? '');
  }

  /** A scalar is shown where it stands; a list or map at its key, which may be a line above. */
  #lineOfSpot({ key, value }: Spot): number | undefined {
    const node = isScalar(value) && value.range?.[0] !== value.range?.[1] ? value : (key ?? value);
    return this.#lineAt(node?.range?.[0]);
  }

  #lineAt(offset: number | undefined): number | undefined {
    return offset === undefined ? undefined : Math.max(1, this.#lines.linePos(offset).line);
  }

  #error(line: number | undefined, path: Path, message: string, code: ErrorCode = 'ERR_CONFIG'): ConfigError {
    const place = { file: this.#file, line, path: path.length === 0 ? undefined : formatPath(path) };
    return new ConfigError(code, message, place);
  }

  #find(path: Path): Spot | undefined {
    let spot: Spot = { value: this.#document.contents ?? undefined };
    for (const part of path) {
      const parent = this.#resolve(spot.value);
      const next = childOf(parent, part);
      if (next === undefined) return undefined;
      spot = next;
    }
    return spot;
  }

  #resolve(node: Node | undefined): Node | undefined {
    return isAlias(node) ? node.resolve(this.#document) : node;
  }

  #convert(written: Node | null, path: Path): unknown {
    const node = isAlias(written) ? this.#anchors.get(written.source) : (written ?? undefined);
    if (written !== null && node === undefined)
      throw this.mistake(path, 'This alias stands for nothing before it.');
    if (path.length > maxDepth)
      throw this.mistake(path.slice(0, maxDepth), `Nested deeper than ${maxDepth} levels.`);
    this.#nodes += 1;
    if (this.#nodes > maxNodes)
      throw this.mistake([], `More than ${maxNodes} values, aliases counted each time.`);
    if (node?.tag !== undefined && !plainTags.has(node.tag))
      throw this.mistake(path, 'YAML tags are not allowed.');
    if (node?.anchor !== undefined) this.#anchors.set(node.anchor, node);
    if (isMap<Node, Node | null>(node)) return this.#convertMap(node.items, path);
    if (isSeq<Node>(node)) return node.items.map((item, index) => this.#convert(item, [...path, index]));
    return isScalar(node) ? node.value : null;
  }

  #convertMap(pairs: readonly Pair<Node, Node | null>[], path: Path): Record<string, unknown> {
    const map: Record<string, unknown> = {};
    const lines = new Map<string, number | undefined>();
    for (const { key, value } of pairs) {
      const name = keyOf(key);
      const line = this.#lineAt(key.range?.[0]);
      if (name === undefined) throw this.#error(line, path, 'A key must be plain text.');
      if (name === '<<')
        throw this.#error(line, [...path, name], 'Merge keys are not read: write the keys out.');
      if (name === '__proto__') throw this.#error(line, [...path, name], 'This key is not allowed.');
      if (lines.has(name)) {
        throw this.#error(line, [...path, name], `This key is there already, in line ${lines.get(name)}.`);
      }
      lines.set(name, line);
      map[name] = this.#convert(value, [...path, name]);
    }
    return map;
  }
}

/** Without what stands where a password is meant to: one that begins with `{` is read as a map, `password:x` as a key. */
function shown(path: Path): Path {
  const at = path.findIndex((part) => /^password(?: ?[:=]|$)/.test(String(part)));
  if (at >= 0) return [...path.slice(0, at), 'password'];
  const depth = depthOfLogins(path);
  const key = path[depth];
  return typeof key !== 'string' || meansKey(key, keysOfLogins) ? path : path.slice(0, depth);
}

/** In image-syncer's files too, and what YAML or JavaScript mean by a key. */
const keysOfLogins = [...keysOfRegistry, 'insecure', '<<', '__proto__'];

/** How deep the keys of a login stand: in image-syncer's `auth.yaml` the hosts are the whole of it. */
function depthOfLogins([first]: Path): number {
  if (first === 'images') return Number.POSITIVE_INFINITY;
  return first === 'registries' || first === 'auth' ? 2 : 1;
}

/** In words of our own: those of the parser repeat what is written there, which may be a password. */
const reasons: Readonly<Record<YAMLError['code'], string>> = {
  ALIAS_PROPS: 'an alias has an anchor or a tag of its own',
  BAD_ALIAS:
    'an alias or anchor has no name, or one that ends in a colon: a value that begins with & or * has to be quoted',
  BAD_COLLECTION_TYPE: 'a tag does not fit its list or map',
  BAD_DIRECTIVE: 'a line that begins with % is no directive of YAML',
  BAD_DQ_ESCAPE:
    'a backslash within double quotes begins nothing that YAML knows: write it twice, or take single quotes',
  BAD_INDENT: 'this line is indented differently from those beside it, or too little',
  BAD_PROP_ORDER: 'an anchor or tag stands at the wrong place',
  BAD_SCALAR_START: 'a value begins with a character that has to be quoted',
  BLOCK_AS_IMPLICIT_KEY: 'one line has two keys: a value that holds a colon and a space has to be quoted',
  BLOCK_IN_FLOW: 'a list or map of several lines stands within brackets or braces',
  DUPLICATE_KEY: 'a key is there twice',
  IMPOSSIBLE: 'it cannot be read',
  KEY_OVER_1024_CHARS: 'a key has more than 1,024 characters',
  MISSING_CHAR: 'a colon, comma, bracket, quote or space is missing',
  MULTILINE_IMPLICIT_KEY: 'a key goes over several lines, or its colon is missing',
  MULTIPLE_ANCHORS: 'a value has two anchors',
  MULTIPLE_DOCS: 'it holds more than one document',
  MULTIPLE_TAGS: 'a value has two tags',
  NON_STRING_KEY: 'a key is no text',
  RESOURCE_EXHAUSTION: 'it is nested too deeply',
  TAB_AS_INDENT: 'a tab is used to indent: YAML takes spaces alone',
  TAG_RESOLVE_FAILED: 'tags are not read: a value that begins with ! has to be quoted',
  UNEXPECTED_TOKEN: 'something stands where it cannot: a value with special characters has to be quoted',
};

function childOf(parent: Node | undefined, part: string | number): Spot | undefined {
  if (isSeq<Node>(parent)) {
    const value = typeof part === 'number' ? parent.items[part] : undefined;
    return value && { value };
  }
  if (!isMap<Node, Node | null>(parent)) return undefined;
  const pair = parent.items.find(({ key }) => keyOf(key) === String(part));
  return pair && { key: pair.key, value: pair.value ?? undefined };
}

function keyOf(key: Node): string | undefined {
  if (!isScalar(key) || key.value === null) return undefined;
  return typeof key.value === 'string' ? key.value : (key as Scalar).source;
}
