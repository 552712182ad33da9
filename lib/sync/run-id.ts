import { randomBytes } from 'node:crypto';

/** A run's name: it sorts by time. */
export function newRunId(time: Date, trigger: string): string {
  const stamp = time.toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '');
  return `${stamp}-${trigger}-${randomBytes(3).toString('hex')}`;
}
