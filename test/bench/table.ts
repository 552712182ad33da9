/** The figures as people read them. */
import { barred, isCounted, type Judged, leastRounds, type Summary, type Unit } from './figure.ts';

const head = ['benchmark', 'figure', 'hubferry', 'peer', 'ratio', 'bar', 'verdict'];

export function renderTable(figures: readonly Judged[]): string {
  const rows = [head, ...figures.map(rowOf)];
  const widths = head.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((width) => '-'.repeat(width)).join('  '));
  return `${lines.join('\n')}\n`;
}

function rowOf(figure: Judged): string[] {
  const { benchmark, what, unit, own, others, peer, ratio, bar } = figure;
  return [
    benchmark,
    what,
    figure.values.length === 1 && !isCounted(figure)
      ? `${amount(own.median, unit)} (one sample)`
      : spread(own, unit),
    peer && others ? `${peer.name} ${spread(others, unit)}` : 'none',
    ratio === undefined ? '' : ratio.toFixed(2),
    bar === undefined ? '' : `≤ ${bar.of === 'median' ? amount(bar.atMost, unit) : bar.atMost.toFixed(2)}`,
    verdictOf(figure),
  ];
}

export function verdictOf({ bar, met, ratio, own }: Judged): string {
  if (bar === undefined) return '';
  if (met === undefined) return `none below ${leastRounds} rounds`;
  if (!met) return 'MISSED';
  return bar.aim !== undefined && barred(bar, own, ratio) <= bar.aim ? 'met, and the aim' : 'met';
}

function spread({ median, low, high }: Summary, unit: Unit): string {
  const middle = amount(median, unit);
  return low === high ? middle : `${middle} (${digits(low)}–${digits(high)})`;
}

function amount(value: number, unit: Unit): string {
  return `${digits(value)} ${unit}`;
}

/** Three digits that count. */
function digits(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}
