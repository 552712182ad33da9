import { open, writeFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import { ConfigError, HubferryError } from '../errors.ts';
import type { Report, SyncOutcome } from '../sync/runs/report.ts';
import type { SuccessOptions } from './arguments.ts';
import { reasonOf } from './file-error.ts';

/** What was copied in this run as image-syncer tells it: each source with its targets. */
export function successMap(report: Report<SyncOutcome>): Record<string, string[]> {
  const copied = report.tags.filter(({ outcome }) => outcome === 'copied');
  const bySource = Map.groupBy(copied, ({ source }) => source);
  return Object.fromEntries(
    [...bySource].map(([source, lines]) => [source, lines.map(({ target }) => target)]),
  );
}

/** Finds out before a long run that its file cannot be written. @throws ERR_USAGE */
export async function checkSuccessFile({ file }: SuccessOptions): Promise<void> {
  try {
    await (await open(file, 'a')).close();
  } catch (error) {
    const message = `--output-success-images: the file cannot be written: ${reasonOf(error)}.`;
    throw new ConfigError('ERR_USAGE', message, { file }, { cause: error });
  }
}

/** @throws ERR_STORAGE */
export async function writeSuccessFile(
  report: Report<SyncOutcome>,
  { file, format }: SuccessOptions,
): Promise<void> {
  const map = successMap(report);
  const text =
    format === 'json' ? `${JSON.stringify(map, undefined, 2)}\n` : stringify(map, { lineWidth: 0 });
  try {
    await writeFile(file, text);
  } catch (error) {
    const message = `--output-success-images: the file cannot be written: ${reasonOf(error)}.`;
    throw new HubferryError('ERR_STORAGE', message, { cause: error });
  }
}
