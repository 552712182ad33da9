import { errorCodes, redact } from '../errors.ts';
import { escapeControls } from '../log.ts';
import type { Finding } from './engine.ts';
import type { Paint } from './format.ts';

/** What a person does about a finding: its own remedy, else its code's; nothing where all is well. */
export function remedyOf({ status, remedy, code }: Finding): string | undefined {
  if (status === 'ok') return undefined;
  return remedy ?? (code === undefined ? undefined : errorCodes[code].remedy);
}

export function exitCodeOfDoctor(findings: readonly Finding[]): number {
  return findings.some(({ status }) => status === 'failed') ? 1 : 0;
}

const marks = { ok: ['green', 'ok'], warning: ['yellow', 'warning'], failed: ['red', 'failed'] } as const;

export function renderFindings(findings: readonly Finding[], paint: Paint): string {
  const width = Math.max(0, ...findings.map(({ check }) => escapeControls(check).length));
  return findings.map((finding) => renderFinding(finding, width, paint)).join('');
}

function renderFinding(finding: Finding, width: number, paint: Paint): string {
  const [color, word] = marks[finding.status];
  const check = escapeControls(finding.check).padEnd(width);
  const message = escapeControls(redact(finding.message));
  const remedy = remedyOf(finding);
  const second = remedy === undefined ? '' : `${' '.repeat(9)}${escapeControls(remedy)}\n`;
  return `${paint(color, word.padEnd(7))}  ${check}  ${message}\n${second}`;
}
