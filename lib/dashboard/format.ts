/** Numbers, sizes and times for people. The page speaks English; times are those of the reader's clock. */

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const numbers = new Intl.NumberFormat('en');
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const moments = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
const dates = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const hours = new Intl.DateTimeFormat('en-GB', {
  day: 'numeric',
  month: 'short',
  hour: '2-digit',
  minute: '2-digit',
});
const clock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });

export const second = 1000;
export const minute = 60 * second;
export const hour = 60 * minute;
export const day = 24 * hour;

export function count(value: number): string {
  return numbers.format(value);
}

/** `1 tag`, `2 tags`. */
export function several(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** `512 B`, `1.5 MiB`. */
export function bytes(value: number): string {
  let scaled = value;
  let power = 0;
  // 1023.5 would round to 1024.
  while (scaled >= 1023.5 && power < units.length - 1) {
    scaled /= 1024;
    power += 1;
  }
  return `${power > 0 && scaled < 99.95 ? scaled.toFixed(1) : Math.round(scaled)} ${units[power]}`;
}

/** `450 ms`, `12 s`, `4 min 5 s`, `1 h 30 min`. */
export function duration(ms: number): string {
  const seconds = Math.round(ms / second);
  if (ms < second) return `${Math.round(ms)} ms`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `3 hours ago`, `in 20 minutes`. */
export function distance(time: number, now: number): string {
  const ms = time - now;
  const size = Math.abs(ms);
  if (size < minute) return relative.format(Math.round(ms / second), 'second');
  if (size < hour) return relative.format(Math.round(ms / minute), 'minute');
  if (size < 2 * day) return relative.format(Math.round(ms / hour), 'hour');
  return relative.format(Math.round(ms / day), 'day');
}

/** `24 Nov 2026, 13:14`. */
export function moment(time: number): string {
  return moments.format(time);
}

/** `13:14:05`. */
export function timeOfDay(time: number): string {
  return clock.format(time);
}

/** `3 Nov`. */
export function dateOf(time: number): string {
  return dates.format(time);
}

/** `3 Nov, 14:00`. */
export function timeLabel(time: number): string {
  return hours.format(time);
}
