/** What was sent as a login, and how it is found again in the words of others. */

/** Anything shorter would take words out of every message. */
const shortestSecret = 5;
/** As much of a secret is one too: whoever repeats it may cut it off. */
const tellingBeginning = 12;
/** Of a longer one this much is looked for, and hidden with what follows it: what is looked for again and again is bounded. */
const longestForm = 256;
/** As far as a text is looked at from one place: any form of so many characters, of three bytes each, in hexadecimal. */
const longestLook = longestForm * 3 * 2;
/** What a token is made of (RFC 6750 section 2.1), and all forms of it, as they are compared. */
const tokenShape = /^[\w.~+/=-]*$/;
const tokenCharacter = /[\w.~+/=]/;
/** What somebody else calls a token may be a word that everybody uses. */
const shortestToken = 16;
/** In one generation. What is used is kept again and again, so that the oldest generation is of no more use. */
const maxSecrets = 250;

/**
 * How a text is read: without all that may break a secret into parts, or with it,
 * for a secret that is of little else.
 */
type Reading = 'bare' | 'whole';
const readings: readonly Reading[] = ['bare', 'whole'];

/** A comparable text. */
class Plain {
  readonly text: string;
  readonly reading: Reading;
  /** Whether there was white space before a character of it. */
  readonly #followsSpace: (at: number) => boolean;
  #lastToken: Run = { from: 0, to: -1 };

  constructor(text: string, reading: Reading, followsSpace: (at: number) => boolean) {
    this.text = text;
    this.reading = reading;
    this.#followsSpace = followsSpace;
  }

  /** Where what may be the rest of a token ends, at the latest at white space: words of others follow there. */
  endOfToken(from: number): number {
    // Asked for from one place after the other: what was looked at once need not be again.
    if (from >= this.#lastToken.from && from <= this.#lastToken.to) return this.#lastToken.to;
    let to = from;
    while (tokenCharacter.test(this.text.charAt(to)) && !this.#followsSpace(to)) to += 1;
    this.#lastToken = { from, to };
    return to;
  }
}

/** What is looked for in one reading of a text. */
class Forms {
  /** The first characters of all. */
  readonly starts = new Set<string>();
  /** Those that are only looked for whole. */
  readonly short = new Set<string>();
  /** All others, in order: the longest common beginning with a text is that of one of its two neighbours. */
  readonly long: string[] = [];
  /** Those that are but the beginning, and whether what follows is of a token's characters alone. */
  readonly cut = new Map<string, boolean>();

  add(form: string, value: string): void {
    if (form.length < shortestSecret) return;
    this.#addForm(form);
    if (value.length > longestForm) this.#addCut(form, value);
  }

  /** Several may begin alike: what hides the most is for all of them. */
  #addCut(form: string, value: string): void {
    this.cut.set(form, this.cut.get(form) !== false && tokenShape.test(value));
  }

  #addForm(form: string): void {
    this.starts.add(form.slice(0, shortestSecret));
    if (form.length < tellingBeginning) return void this.short.add(form);
    const index = this.#indexOf(form);
    if (this.long[index] !== form) this.long.splice(index, 0, form);
  }

  /** Where a text stands, or would stand, among the long ones. */
  #indexOf(text: string): number {
    let [from, to] = [0, this.long.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.long[middle] ?? '') < text) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  /** How much of a comparable text from there on is a secret. */
  lengthAt(plain: Plain, at: number): number {
    if (!this.starts.has(plain.text.slice(at, at + shortestSecret))) return 0;
    const text = plain.text.slice(at, at + longestLook);
    const index = this.#indexOf(text);
    let longest = 0;
    for (const form of [this.long[index - 1], this.long[index]]) {
      if (form !== undefined) longest = Math.max(longest, this.#lengthOf(form, plain, at));
    }
    for (let length = shortestSecret; length < tellingBeginning && length <= text.length; length += 1) {
      if (length > longest && this.short.has(text.slice(0, length))) longest = length;
    }
    return longest;
  }

  #lengthOf(form: string, plain: Plain, at: number): number {
    let length = 0;
    while (length < form.length && form[length] === plain.text[at + length]) length += 1;
    if (length < tellingBeginning) return 0;
    if (length < form.length || !this.cut.has(form)) return length;
    return (this.cut.get(form) ? plain.endOfToken(at + length) : plain.text.length) - at;
  }
}

/** What is looked for. */
class Generation {
  readonly values = new Set<string>();
  readonly forms: Readonly<Record<Reading, Forms>> = { bare: new Forms(), whole: new Forms() };

  add(value: string): void {
    this.values.add(value);
    const beginning = beginningOf(value);
    for (const form of new Set(writtenForms(beginning).map(bare))) this.forms.bare.add(form, value);
    if (bare(beginning).length >= shortestSecret) return;
    for (const form of new Set(jsonForms(beginning).map(folded))) this.forms.whole.add(form, value);
  }
}

/** Not cut amid a character: half of one is written down in another way. */
function beginningOf(value: string): string {
  return value.slice(0, longestForm).replace(/[\ud800-\udbff]$/, '');
}

/** What was used last. */
class Kept {
  #newest = new Generation();
  #older = this.#newest;

  keep(value: string): void {
    if (this.#newest.values.has(value)) return;
    if (this.#newest.values.size >= maxSecrets) {
      this.#older = this.#newest;
      this.#newest = new Generation();
    }
    this.#newest.add(value);
  }

  /** Whether anything is looked for in this reading. */
  uses(reading: Reading): boolean {
    return [this.#newest, this.#older].some(({ forms }) => forms[reading].starts.size > 0);
  }

  lengthAt(plain: Plain, at: number): number {
    const length = this.#newest.forms[plain.reading].lengthAt(plain, at);
    if (this.#older === this.#newest) return length;
    return Math.max(length, this.#older.forms[plain.reading].lengthAt(plain, at));
  }
}

const logins = new Kept();
/** Apart: there are many more of them, and a login is not used while its token is. */
const tokens = new Kept();

/** Few logins need the second one. */
function readingsInUse(): readonly Reading[] {
  return readings.filter((reading) => logins.uses(reading) || tokens.uses(reading));
}

/** From now on this login is taken out of what people see, whatever it looks like: whoever was sent it may repeat it. */
export function keepSecret(value: string): void {
  if (value.length >= shortestSecret) logins.keep(value);
}

/** As `keepSecret`, for what others gave for a login. To be called with every use: what is not used is given up. */
export function keepToken(value: string): void {
  if (value.length >= shortestToken) tokens.keep(value);
}

/** How others write a text down; with escapes it is found where these are undone. */
function writtenForms(value: string): string[] {
  let hexadecimal = '';
  let bytes = '';
  for (const byte of new TextEncoder().encode(value)) {
    hexadecimal += byte.toString(16).padStart(2, '0');
    bytes += String.fromCharCode(byte);
  }
  return [
    value,
    // A form has a plus for a space, JSON a letter for a line's end.
    new URLSearchParams([['', value]]).toString().slice(1),
    JSON.stringify(value).slice(1, -1),
    hexadecimal,
    ...[0, 1, 2].map((before) => base64Amid(bytes, before)),
  ];
}

/** A text as it is and in JSON in JSON, where each of its backslashes becomes a row of them. */
function jsonForms(value: string): string[] {
  const forms = [value];
  while (forms.length < mostLayers) forms.push(JSON.stringify(forms.at(-1)).slice(1, -1));
  return forms;
}

/** The characters of a base64 text that these bytes alone decide, after so many others. */
function base64Amid(bytes: string, before: number): string {
  const text = btoa('\0'.repeat(before) + bytes);
  return text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6));
}

/** A text as secrets are looked for in it: in any case, accents apart, whatever breaks it, base64 in both alphabets. */
function bare(text: string): string {
  return folded(text.replace(/[\p{C}\s\\%]+/gu, ''));
}

/** The same with what breaks it. */
function folded(text: string): string {
  return (
    text
      .replace(/\P{ASCII}/gu, (character) => character.normalize('NFD'))
      // Some letters have no other one in capitals, as ß, and some only as a small one, as ẞ.
      .toLowerCase()
      .toUpperCase()
      .toLowerCase()
      .replaceAll('ς', 'σ')
      .replaceAll('-', '+')
      .replaceAll('_', '/')
  );
}

const read: Readonly<Record<Reading, (text: string) => string>> = { bare, whole: folded };

/** Characters as URLs, HTML, JSON and programs write them. Amid backslashes none begins: each row of them is read once. */
const escapes =
  /((?:%[\da-f]{2})+)|(?<!\\)(?:((?:\\+u[\da-f]{4})+)|((?:\\+x[\da-f]{2})+))|&#x([\da-f]{1,6});?|&#(\d{1,7});?|&(amp|lt|gt|quot|apos);?/gi;
/** As Python and Go write what is beyond 16 bits. Apart: only the case of their letter tells them from others. */
const wideEscapes = /(?<!\\)\\+U(00(?:0[\da-fA-F]|10)[\da-fA-F]{4})/g;
const entities: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
/** Who escapes an error puts it into another that is escaped as well. */
const mostLayers = 4;

interface Replaceable<T> {
  replace(pattern: RegExp, by: (match: string, ...groups: (string | undefined)[]) => string): T;
}

/** One layer of escapes undone. */
function unescaped<T extends Replaceable<T>>(text: T): T {
  return text.replace(wideEscapes, wideMeaningOf).replace(escapes, meaningOf);
}

function wideMeaningOf(match: string, digits = ''): string {
  return fromCode(`0x${digits}`, match);
}

/** What an escape stands for; itself where that is nothing. */
function meaningOf(match: string, ...groups: (string | undefined)[]): string {
  const [percents, units, bytes, hexadecimal, decimal, entity] = groups;
  if (percents !== undefined || bytes !== undefined) return fromBytes(match);
  if (units !== undefined) return units.replace(/\\+u(.{4})/gi, (_, unit) => fromCode(`0x${unit}`, match));
  if (entity !== undefined) return entities[entity.toLowerCase()] ?? match;
  return fromCode(decimal ?? `0x${hexadecimal}`, match);
}

/** UTF-8, else Latin-1. */
function fromBytes(text: string): string {
  const bytes = Uint8Array.from(text.matchAll(/[%x](..)/gi), ([, digits]) => Number(`0x${digits}`));
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('latin1').decode(bytes);
  }
}

function fromCode(code: string, otherwise: string): string {
  const point = Number(code);
  return point <= 0x10ffff ? String.fromCodePoint(point) : otherwise;
}

/** From the one to before the other. */
interface Run {
  readonly from: number;
  to: number;
}

/** Where secrets stand in a comparable text; what overlaps is one run. */
function secretRuns(plain: Plain): Run[] {
  const runs: Run[] = [];
  for (let from = 0; from + shortestSecret <= plain.text.length; from += 1) {
    const to = from + secretLengthAt(plain, from);
    const last = runs.at(-1);
    if (to > from && last !== undefined && from < last.to) last.to = Math.max(last.to, to);
    else if (to > from) runs.push({ from, to });
    // Amid what is hidden for what it follows, only what begins near its end goes on past that.
    from = Math.max(from, to - longestLook);
  }
  return runs;
}

function secretLengthAt(plain: Plain, at: number): number {
  return Math.max(logins.lengthAt(plain, at), tokens.lengthAt(plain, at));
}

/** A text that was made of another one, and where in that each of its characters was. */
class Derived {
  readonly text: string;
  readonly #origins: readonly Run[];

  constructor(parts: readonly (readonly [text: string, origin: Run])[]) {
    this.text = parts.map(([text]) => text).join('');
    this.#origins = parts.flatMap(([text, origin]) => Array<Run>(text.length).fill(origin));
  }

  static from(text: string): Derived {
    return new Derived(
      Array.from({ length: text.length }, (_, at) => [text.charAt(at), { from: at, to: at + 1 }]),
    );
  }

  /** Where a run of its characters was in the first text. */
  originOf({ from, to }: Run): Run {
    return { from: this.#origins[from]?.from ?? 0, to: this.#origins[to - 1]?.to ?? 0 };
  }

  /** With each match of a pattern replaced. */
  replace(
    pattern: RegExp,
    replacement: (match: string, ...groups: (string | undefined)[]) => string,
  ): Derived {
    const parts: [string, Run][] = [];
    let at = 0;
    const copyTo = (end: number) => {
      for (; at < end; at += 1) parts.push([this.text.charAt(at), this.originOf({ from: at, to: at + 1 })]);
    };
    for (const found of this.text.matchAll(pattern)) {
      const [match, ...groups] = found;
      copyTo(found.index);
      at = found.index + match.length;
      parts.push([replacement(match, ...groups), this.originOf({ from: found.index, to: at })]);
    }
    copyTo(this.text.length);
    return new Derived(parts);
  }
}

/** The text itself, and what it says with its escapes undone, time after time. */
function* layersOf<T extends { readonly text: string }>(first: T, undo: (layer: T) => T): Generator<T> {
  let layer = first;
  for (let count = 0; count < mostLayers; count += 1) {
    yield layer;
    const next = undo(layer);
    if (next.text === layer.text) return;
    layer = next;
  }
}

function holdsSecret(text: string): boolean {
  const used = readingsInUse();
  const layers = layersOf({ text }, (layer) => ({ text: unescaped(layer.text) }));
  const followsSpace = () => false;
  return layers.some((layer) =>
    used.some((reading) => {
      const plain = new Plain(read[reading](layer.text), reading, followsSpace);
      return secretRuns(plain).length > 0;
    }),
  );
}

/** Where secrets stand in one reading of a text that was made of another one: where in that. */
function secretsOf(layer: Derived, reading: Reading, text: string): Run[] {
  const plain = layer.replace(/./gsu, read[reading]);
  const originOf = (at: number) => plain.originOf({ from: at, to: at + 1 });
  const followsSpace = (at: number) => /\s/.test(text.slice(originOf(at - 1).to, originOf(at).from));
  return secretRuns(new Plain(plain.text, reading, followsSpace)).map((run) => plain.originOf(run));
}

/** Where secrets stand in a text, in order and apart. */
function secretsIn(text: string): Run[] {
  const used = readingsInUse();
  const layers = layersOf(Derived.from(text), unescaped);
  const found = layers.flatMap((layer) => used.flatMap((reading) => secretsOf(layer, reading, text)));
  const runs: Run[] = [];
  for (const run of [...found].sort((a, b) => a.from - b.from)) {
    const last = runs.at(-1);
    if (last !== undefined && run.from < last.to) last.to = Math.max(last.to, run.to);
    else runs.push({ ...run });
  }
  return runs;
}

/** Takes kept secrets out of a text, in whatever form somebody wrote them down there, and the beginnings of them. */
export function withoutSecrets(text: string): string {
  if (!holdsSecret(text)) return text;
  let out = '';
  let at = 0;
  for (const { from, to } of secretsIn(text)) {
    out += `${text.slice(at, from)}***`;
    at = to;
  }
  return out + text.slice(at);
}
