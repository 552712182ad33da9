/** The last runs, and one of them, for people. */
import { escapeControls } from '../log.ts';
import type { AnyReport, RunHeader } from '../sync/runs/report.ts';
import type { RunSummary } from '../sync/runs/runs.ts';
import { formatDuration, formatTime, type Paint } from './format.ts';
import { renderCounts, renderFailures, renderReport, type View } from './output.ts';

const mostFailures = 10;

/** One line a run, the newest first, and below it what failed. */
export function renderRuns(runs: readonly RunSummary[], view: View): string {
  if (runs.length === 0) return 'No run yet.\n';
  const widths = {
    id: Math.max(3, ...runs.map(({ run }) => run.id.length)),
    trigger: Math.max(7, ...runs.map(({ run }) => run.trigger.length)),
  };
  const head = [
    'RUN'.padEnd(widths.id),
    'TRIGGER'.padEnd(widths.trigger),
    'STARTED'.padEnd(20),
    'TOOK'.padEnd(11),
  ];
  const rows = runs.map((summary) => renderSummary(summary, widths, view));
  return `${view.paint('bold', [...head, 'RESULT'].join('  '))}\n${rows.join('')}`;
}

function renderSummary(
  { run, totals, failures }: RunSummary,
  widths: { id: number; trigger: number },
  view: View,
): string {
  const cells = [
    escapeControls(run.id).padEnd(widths.id),
    escapeControls(run.trigger).padEnd(widths.trigger),
    escapeControls(formatTime(run.startedAt)).padEnd(20),
    tookOf(run).padEnd(11),
    renderCounts(totals),
  ];
  const below = renderFailures(failures, { ...view, most: mostFailures }).trimEnd();
  return `${cells.join('  ')}\n${below === '' ? '' : `${below.replace(/^/gm, '    ')}\n`}`;
}

/** One run whole. */
export function renderRun(report: AnyReport, view: View): string {
  const { id, trigger, startedAt } = report.run;
  const head = `run ${id}, ${trigger}, started ${formatTime(startedAt)}, ${tookOf(report.run)}`;
  return `${renderHead(head, view.paint)}\n${renderReport(report, view)}`;
}

function renderHead(head: string, paint: Paint): string {
  return `${paint('bold', escapeControls(head))}\n`;
}

function tookOf({ startedAt, finishedAt, interrupted }: RunHeader): string {
  if (interrupted === true) return 'interrupted';
  if (finishedAt === undefined) return 'running';
  return formatDuration(Date.parse(finishedAt) - Date.parse(startedAt));
}
