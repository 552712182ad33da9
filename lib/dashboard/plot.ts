/** Plots of what the runs moved, and the same numbers as a table. */
import { type Child, h, s } from './dom.ts';
import { bytes, count, dateOf, day, moment, several, timeLabel } from './format.ts';
import type { Bucket } from './traffic.ts';

/** Two plots that share their time axis, and the same numbers as a table. */
export function traffic(buckets: readonly Bucket[], width: number): Child[] {
  const busy = buckets.filter(({ runs }) => runs > 0);
  return [
    plot({
      title: 'Bytes copied',
      buckets,
      width,
      value: (bucket) => bucket.bytes,
      text: bytes,
      steps: binarySteps,
    }),
    plot({
      title: 'Pulls',
      buckets,
      width,
      value: (bucket) => bucket.pulls,
      text: count,
      steps: decimalSteps,
    }),
    h('details', { class: 'numbers' }, h('summary', {}, 'The plots as a table'), table(busy)),
  ];
}

function table(buckets: readonly Bucket[]): HTMLElement {
  const heads = ['From', 'Runs', 'Bytes copied', 'Pulls'].map((text) => h('th', { scope: 'col' }, text));
  const rows = buckets.map(({ from, runs, bytes: copied, pulls }) =>
    h('tr', {}, ...[moment(from), count(runs), bytes(copied), count(pulls)].map((text) => h('td', {}, text))),
  );
  return h('table', {}, h('thead', {}, h('tr', {}, ...heads)), h('tbody', {}, ...rows));
}

interface Plot {
  readonly title: string;
  readonly buckets: readonly Bucket[];
  /** In pixels: what is drawn is never scaled, so its texts keep their size. */
  readonly width: number;
  readonly value: (bucket: Bucket) => number;
  readonly text: (value: number) => string;
  /** Values that make good lines, from small to large. */
  readonly steps: (atLeast: number) => number;
}

const height = 168;
const edge = { top: 10, right: 8, bottom: 24, left: 64 };
const lines = 3;

function plot({ title, buckets, width, value, text, steps }: Plot): HTMLElement {
  const values = buckets.map(value);
  const total = values.reduce((sum, one) => sum + one, 0);
  const step = steps(Math.max(1, ...values) / lines);
  const floor = height - edge.bottom;
  const scale = (floor - edge.top) / (step * lines);
  const slot = (width - edge.left - edge.right) / buckets.length;
  const gap = Math.min(4, slot / 4);
  const bars = buckets.map((bucket, index) => {
    const tall = Math.max(value(bucket) * scale, value(bucket) > 0 ? 2 : 0);
    const place = { x: edge.left + index * slot + gap / 2, width: slot - gap };
    return s(
      'g',
      { class: 'slot' },
      s('rect', { class: 'column', ...place, y: floor - tall, height: tall, rx: Math.min(3, tall / 2) }),
      s('rect', {
        class: 'reach',
        x: edge.left + index * slot,
        y: edge.top,
        width: slot,
        height: floor - edge.top,
      }),
      s('title', {}, `${moment(bucket.from)}: ${text(value(bucket))}, ${several(bucket.runs, 'run')}`),
    );
  });
  const grid = Array.from({ length: lines + 1 }, (_, line) => {
    const y = floor - line * step * scale;
    return s(
      'g',
      {},
      s('line', { x1: edge.left, x2: width - edge.right, y1: y, y2: y }),
      s('text', { x: edge.left - 8, y: y + 4, 'text-anchor': 'end' }, text(line * step)),
    );
  });
  const label = `${title} over time: ${text(total)} since ${dateOf(buckets[0]?.from ?? 0)}`;
  return h(
    'figure',
    {},
    h('figcaption', {}, h('strong', {}, title), ` ${text(total)}`),
    s(
      'svg',
      { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label },
      ...grid,
      ...bars,
      ...dates(buckets, width, slot),
    ),
  );
}

/** As many dates as fit, the first and the last among them. */
function dates(buckets: readonly Bucket[], width: number, slot: number): SVGElement[] {
  const fitting = Math.max(2, Math.floor((width - edge.left) / 90));
  const every = Math.max(1, Math.ceil(buckets.length / fitting));
  return buckets.flatMap(({ from, to }, index) => {
    if (index % every !== 0) return [];
    const text = to - from < day ? timeLabel(from) : dateOf(from);
    return s(
      'text',
      { x: edge.left + (index + 0.5) * slot, y: height - 6, 'text-anchor': index === 0 ? 'start' : 'middle' },
      text,
    );
  });
}

function binarySteps(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(atLeast));
}

/** 1, 2, 5, 10, 20, 50 and so on. */
function decimalSteps(atLeast: number): number {
  const power = 10 ** Math.floor(Math.log10(atLeast));
  return (
    [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= Math.max(1, atLeast)) ?? atLeast
  );
}
