/** One challenge of a `WWW-Authenticate` field. */
export interface Challenge {
  /** Lower case: `basic`, `bearer`. */
  readonly scheme: string;
  /** By name in lower case; the first of two equal names counts. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** Longer fields are an attack: nothing in them is read. */
const maxLength = 16 * 1024;
const maxChallenges = 16;

/**
 * Reads every challenge of `WWW-Authenticate` (RFC 9110 section 11.6.1): several fields, several challenges in one
 * field, quoted strings. What is malformed is left out, and reading goes on at the next comma.
 */
export function parseChallenges(fields: readonly string[]): readonly Challenge[] {
  const found: Challenge[] = [];
  for (const field of fields) {
    if (field.length > maxLength) continue;
    let current: Map<string, string> | undefined;
    for (const element of elements(field)) {
      const start = /^([\w!#$%&'*+.^`|~-]+)(?:[ \t]+(.*))?$/s.exec(element);
      const parameter = parseParameter(element);
      if (parameter === undefined && start?.[1] !== undefined) {
        if (found.length === maxChallenges) return found;
        current = new Map();
        found.push({ scheme: start[1].toLowerCase(), parameters: current });
        add(current, parseParameter(start[2] ?? ''));
      } else {
        add(current, parameter);
      }
    }
  }
  return found;
}

type Parameter = readonly [name: string, value: string];

function add(parameters: Map<string, string> | undefined, parameter: Parameter | undefined): void {
  if (parameter === undefined || parameters === undefined || parameters.has(parameter[0])) return;
  parameters.set(...parameter);
}

/** Splits at the commas outside of quoted strings. */
function elements(field: string): readonly string[] {
  const found: string[] = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at < field.length; at++) {
    const char = field[at];
    if (char === '"') quoted = !quoted;
    else if (char === '\\' && quoted) at++;
    else if (char === ',' && !quoted) {
      found.push(field.slice(start, at).trim());
      start = at + 1;
    }
  }
  found.push(field.slice(start).trim());
  return found.filter((element) => element !== '');
}

/** `name=token` or `name="quoted string"`, with white space around the sign, which old servers send. */
function parseParameter(text: string): Parameter | undefined {
  const match = /^([\w!#$%&'*+.^`|~-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",=][^\s",]*))$/s.exec(text);
  if (match?.[1] === undefined) return undefined;
  const value = match[2]?.replace(/\\(.)/gs, '$1') ?? match[3] ?? '';
  return [match[1].toLowerCase(), value];
}
