/**
 * NCRONTAB, the six fields of a timer trigger: second, minute, hour, day, month, day of the week; in UTC.
 * A day must fit both day fields. Five fields mean second 0.
 */

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly names?: readonly string[];
}

const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const weekdays = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

const second: Field = { name: 'second', min: 0, max: 59 };
const minute: Field = { name: 'minute', min: 0, max: 59 };
const hour: Field = { name: 'hour', min: 0, max: 23 };
const day: Field = { name: 'day', min: 1, max: 31 };
const month: Field = { name: 'month', min: 1, max: 12, names: months };
const weekday: Field = { name: 'day of the week', min: 0, max: 6, names: weekdays };

/** A 29 February falls on a given weekday at least every forty years, also across a century without a leap day. */
const searchYears = 41;

export class Schedule {
  readonly #seconds: ReadonlySet<number>;
  readonly #minutes: ReadonlySet<number>;
  readonly #hours: ReadonlySet<number>;
  readonly #days: ReadonlySet<number>;
  readonly #months: ReadonlySet<number>;
  readonly #weekdays: ReadonlySet<number>;

  constructor(expression: string) {
    const fields = expression.trim().split(/\s+/);
    if (fields.length === 5) fields.unshift('0');
    if (fields.length !== 6) throw new Error(`The schedule "${expression}" has not six fields.`);
    const [a = '', b = '', c = '', d = '', e = '', f = ''] = fields;
    this.#seconds = valuesOf(a, second);
    this.#minutes = valuesOf(b, minute);
    this.#hours = valuesOf(c, hour);
    this.#days = valuesOf(d, day);
    this.#months = valuesOf(e, month);
    this.#weekdays = valuesOf(f, weekday);
  }

  /** The first occurrence after a time; `undefined` for a schedule that never occurs, such as 30 February. */
  next(after: Date): Date | undefined {
    const date = new Date(after);
    date.setUTCMilliseconds(1000);
    const end = after.getUTCFullYear() + searchYears;
    while (date.getUTCFullYear() < end) {
      if (!this.#isDay(date)) {
        date.setUTCDate(date.getUTCDate() + 1);
        date.setUTCHours(0, 0, 0);
      } else if (!this.#hours.has(date.getUTCHours())) date.setUTCHours(date.getUTCHours() + 1, 0, 0);
      else if (!this.#minutes.has(date.getUTCMinutes())) date.setUTCMinutes(date.getUTCMinutes() + 1, 0);
      else if (!this.#seconds.has(date.getUTCSeconds())) date.setUTCSeconds(date.getUTCSeconds() + 1);
      else return date;
    }
    return undefined;
  }

  #isDay(date: Date): boolean {
    return (
      this.#months.has(date.getUTCMonth() + 1) &&
      this.#days.has(date.getUTCDate()) &&
      this.#weekdays.has(date.getUTCDay())
    );
  }
}

function valuesOf(text: string, field: Field): ReadonlySet<number> {
  return new Set(text.split(',').flatMap((part) => rangeOf(part, field)));
}

function rangeOf(part: string, field: Field): number[] {
  const match = /^(?:\*|(\w+)(?:-(\w+))?)(?:\/(\d+))?$/.exec(part);
  if (!match) throw new Error(`"${part}" is no ${field.name} of a schedule.`);
  const [, first, last, stepText] = match;
  const step = stepText === undefined ? 1 : Number(stepText);
  const from = first === undefined ? field.min : numberOf(first, field);
  // A start with a step and no end (`5/15`) runs to the end of the field.
  const to = last !== undefined ? numberOf(last, field) : first === undefined || stepText ? field.max : from;
  if (step < 1 || from > to) throw new Error(`"${part}" is no ${field.name} of a schedule.`);
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => from + index * step);
}

function numberOf(text: string, field: Field): number {
  const named = field.names?.indexOf(text.toUpperCase()) ?? -1;
  const value = named >= 0 ? named + field.min : /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= field.min && value <= field.max)) throw new Error(`"${text}" is no ${field.name}.`);
  return value;
}
