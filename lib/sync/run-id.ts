import { randomBytes } from 'node:crypto';

/** What a run or a request may be named: names of documents begin with it. */
export const idShape = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const nameShape = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)?Z?-([a-z]+)(?:-|$)/;

/** When a run began, and what began it, as its name tells. */
export function parseRunId(id: string): { readonly startedAt: string; readonly trigger: string } | undefined {
  const [, year, month, day, hour, minute, second = '00', trigger] = nameShape.exec(id) ?? [];
  if (trigger === undefined) return undefined;
  return { startedAt: `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`, trigger };
}

/** A run's name: it sorts by time. */
export function newRunId(time: Date, trigger: string, suffix = randomBytes(3).toString('hex')): string {
  const stamp = time.toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '');
  return `${stamp}-${trigger}-${suffix}`;
}
