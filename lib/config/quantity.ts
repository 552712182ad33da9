/** Durations and sizes as people write them. */

const second = 1000;
const durationUnits: ReadonlyMap<string, number> = new Map([
  ['s', second],
  ['m', 60 * second],
  ['h', 3600 * second],
  ['d', 24 * 3600 * second],
  ['w', 7 * 24 * 3600 * second],
]);

const sizeUnits: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['KiB', 1024],
  ['MiB', 1024 ** 2],
  ['GiB', 1024 ** 3],
]);

/** `90s`, `5m`, `12h`, `30d`, `2w`, or `0`. */
export const durationShape = /^(?:\d{1,6}[smhdw]|0)$/;

/** Bytes, or `512KiB`, `8MiB`, `1GiB`. */
export const sizeShape = /^\d{1,12}(?:[KMG]iB)?$/;

/** A duration in milliseconds; `undefined` for a text that is none. */
export function parseDuration(text: string): number | undefined {
  if (text === '0') return 0;
  const unit = durationUnits.get(text.slice(-1));
  return durationShape.test(text) && unit !== undefined ? Number(text.slice(0, -1)) * unit : undefined;
}

/** A size in bytes; `undefined` for a text that is none. */
export function parseSize(text: string): number | undefined {
  const [, digits = '', unitName = ''] = /^(\d+)(\D*)$/.exec(text) ?? [];
  const unit = sizeUnits.get(unitName);
  return sizeShape.test(text) && unit !== undefined ? Number(digits) * unit : undefined;
}
