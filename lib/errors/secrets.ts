/** What was sent as a login, and how it is found again in the words of others. */

/** Anything shorter would take words out of every message. */
const shortestSecret = 5;
/** As much of a secret is one too: whoever repeats it may cut it off. */
const tellingBeginning = 12;
/** In one generation. What is used is kept again and again, so that the oldest generation is of no more use. */
const maxSecrets = 250;

interface Generation {
  readonly values: Set<string>;
  /** What is looked for, by its first characters. */
  readonly forms: Map<string, string[]>;
}

let newest: Generation = { values: new Set(), forms: new Map() };
let older = newest;

/** From now on this value is taken out of what people see, whatever it looks like: whoever was sent it may repeat it. */
export function keepSecret(value: string): void {
  if (value.length < shortestSecret || newest.values.has(value)) return;
  if (newest.values.size >= maxSecrets) {
    older = newest;
    newest = { values: new Set(), forms: new Map() };
  }
  newest.values.add(value);
  for (const form of new Set(writtenForms(value).map(comparable))) {
    if (form.length < shortestSecret) continue;
    const start = form.slice(0, shortestSecret);
    newest.forms.set(start, [...(newest.forms.get(start) ?? []), form]);
  }
}

const htmlEscapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** How others write a text down. */
function writtenForms(value: string): string[] {
  let hexadecimal = '';
  let bytes = '';
  for (const byte of new TextEncoder().encode(value)) {
    hexadecimal += byte.toString(16).padStart(2, '0');
    bytes += String.fromCharCode(byte);
  }
  return [
    value,
    encodeURIComponent(value.toWellFormed()),
    new URLSearchParams([['', value]]).toString().slice(1),
    JSON.stringify(value).slice(1, -1),
    value.replace(/[&<>"']/g, (character) => htmlEscapes[character] ?? character),
    hexadecimal,
    ...[0, 1, 2].map((before) => base64Amid(bytes, before)),
  ];
}

/** The characters of a base64 text that these bytes alone decide, after so many others. */
function base64Amid(bytes: string, before: number): string {
  const text = btoa('\0'.repeat(before) + bytes);
  return text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6));
}

/** A text as secrets are looked for in it: in any case, whatever breaks or escapes it, and base64 in both alphabets. */
function comparable(text: string): string {
  return text
    .replace(/[\p{C}\s\\%]+/gu, '')
    .toLowerCase()
    .replaceAll('-', '+')
    .replaceAll('_', '/');
}

interface Run {
  readonly from: number;
  to: number;
}

/** Where secrets stand in a comparable text; what overlaps is one run. */
function secretRuns(plain: string): Run[] {
  const runs: Run[] = [];
  for (let from = 0; from + shortestSecret <= plain.length; from += 1) {
    const to = from + secretLengthAt(plain, from);
    const last = runs.at(-1);
    if (to > from && last !== undefined && from < last.to) last.to = Math.max(last.to, to);
    else if (to > from) runs.push({ from, to });
  }
  return runs;
}

function secretLengthAt(plain: string, at: number): number {
  const start = plain.slice(at, at + shortestSecret);
  let longest = 0;
  for (const { forms } of [newest, older]) {
    for (const form of forms.get(start) ?? []) {
      let length = shortestSecret;
      while (length < form.length && form[length] === plain[at + length]) length += 1;
      if (length >= Math.min(form.length, tellingBeginning)) longest = Math.max(longest, length);
    }
  }
  return longest;
}

function withoutRuns(text: string, runs: readonly Run[]): string {
  const left = runs.values();
  let run = left.next().value;
  let isHidden = false;
  let at = 0;
  let out = '';
  for (const character of text) {
    if (run !== undefined && at >= run.to) {
      run = left.next().value;
      isHidden = false;
    }
    const { length } = comparable(character);
    const isInside = run !== undefined && at + length > run.from;
    if (!isInside) out += character;
    else if (!isHidden) out += '***';
    isHidden = isInside;
    at += length;
  }
  return out;
}

/** Takes kept secrets out of a text, in whatever form somebody wrote them down there, and the beginnings of them. */
export function withoutSecrets(text: string): string {
  const runs = secretRuns(comparable(text));
  return runs.length === 0 ? text : withoutRuns(text, runs);
}
