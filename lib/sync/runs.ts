/** Reports of finished runs, one document each; their names sort by time. */
import type { DocumentStore } from '../storage/ports.ts';
import type { AnyReport, Line, RunHeader } from './report.ts';

export interface RunSummary {
  readonly run: RunHeader;
  readonly totals: AnyReport['totals'];
  readonly failures: readonly Line[];
}

const runsShown = 30;
const troubles: ReadonlySet<string> = new Set(['failed', 'deferred', 'moved', 'missing', 'incomplete']);

export async function saveRun(store: DocumentStore, report: AnyReport): Promise<void> {
  await store.put(reportKey(report.run.id), Buffer.from(JSON.stringify(report)));
}

export async function readRun(store: DocumentStore, id: string): Promise<AnyReport | undefined> {
  const document = await store.get(reportKey(id));
  return document === undefined
    ? undefined
    : (JSON.parse(Buffer.from(document.bytes).toString()) as AnyReport);
}

/** The last runs, the newest first. */
export async function listRuns(store: DocumentStore): Promise<RunSummary[]> {
  const ids: string[] = [];
  for await (const { key } of store.list('reports/'))
    ids.push(key.slice('reports/'.length).replace(/\.json$/, ''));
  const newest = ids.slice(-runsShown).reverse();
  const reports = await Promise.all(newest.map((id) => readRun(store, id)));
  return reports.filter((report) => report !== undefined).map(summaryOf);
}

function summaryOf({ run, totals, tags }: AnyReport): RunSummary {
  return { run, totals, failures: tags.filter((line) => troubles.has(line.outcome)) };
}

export function reportKey(id: string): string {
  return `reports/${id}.json`;
}
