/** Everything above the tags, section by section. */
import { byId, type Child, show } from './dom.ts';
import type { Mirror } from './mirror.ts';
import { overview } from './overview.ts';
import { button } from './parts.ts';
import { traffic } from './plot.ts';
import { causesOf, countOf, isTag, type Kind, kindOf, parkedOf, rulesOf } from './standing.ts';
import { rules, runs } from './tables.ts';
import { trafficOf } from './traffic.ts';
import { causes, parked } from './troubles.ts';
import { verdictOf } from './verdict.ts';
import { work } from './work.ts';

/** Padding and border of a plot's card, in pixels. */
const plotFrame = 34;
const narrowestPlot = 240;

/** @param older whether the older runs are wanted too */
export function showMirror(
  { status, lines, untold, reports, speeds }: Mirror,
  { older }: { older: boolean },
): void {
  const now = Date.now();
  const tags = lines.filter(isTag);
  const count = countOf(tags);
  const [failedRules, waitingRules] = [rulesThat(lines, 'bad').size, rulesThat(lines, 'waiting').size];
  const verdict = verdictOf({ status, count, failedRules, waitingRules, untold, now });
  const going = status.openRuns.length > 0 || (status.copying ?? []).length > 0;
  const wrong = causesOf(lines);
  const waiting = parkedOf(lines, status, now);
  show(byId('verdict'), overview({ verdict, count, status, now }));
  // For screen readers, which hear it when it changes.
  show(byId('announcement'), [verdict.title]);
  document.title = `${verdict.title} · hubferry`;
  section('work', going && work({ status, reports, speeds, now }));
  section('causes', wrong.length > 0 && causes(wrong));
  section('parked', waiting.length > 0 && parked(waiting, now));
  section('rules', tags.length > 0 && rules(rulesOf(tags)));
  const { traffic: hours = [] } = status;
  section('traffic', hours.length > 0 && traffic(trafficOf(hours, now), plotWidth()));
  section('runs', runs(status.runs, { now, older }));
}

/** @param paused unknown as long as the app has not answered */
export function showControls(paused: boolean | undefined): void {
  const more = paused
    ? button('resume', 'Resume copying', { class: 'primary' })
    : button('pause', 'Pause copying');
  show(byId('controls'), [paused === undefined ? undefined : more, button('leave', 'Forget the key')]);
}

const told =
  'announcement done verdict work causes parked rules traffic runs tags-title scope about rule outcome lines';

/** Nothing of the mirror stays behind, also where it is out of sight. */
export function clearMirror(): void {
  for (const id of told.split(' ')) show(byId(id), []);
  document.title = 'hubferry';
}

/** Those that are so as a whole. */
function rulesThat(lines: Mirror['lines'], kind: Kind): Set<string> {
  return new Set(lines.filter((line) => !isTag(line) && kindOf(line) === kind).map(({ rule }) => rule));
}

/** Without children it is not there. */
function section(id: string, children: Child[] | false): void {
  byId(id).hidden = children === false;
  show(byId(id), children === false ? [] : children);
}

/** Two plots beside each other, where there is room. */
function plotWidth(): number {
  const { clientWidth } = byId('content');
  const room = clientWidth < 720 ? clientWidth : (clientWidth - 16) / 2;
  return Math.max(room - plotFrame, narrowestPlot);
}
