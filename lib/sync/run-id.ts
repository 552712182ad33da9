import { randomBytes } from 'node:crypto';

/** What a run or a request may be named: names of documents begin with it. */
export const idShape = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** A run's name: it sorts by time. */
export function newRunId(time: Date, trigger: string): string {
  const stamp = time.toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '');
  return `${stamp}-${trigger}-${randomBytes(3).toString('hex')}`;
}
