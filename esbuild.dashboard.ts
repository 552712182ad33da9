/** Puts the dashboard together: its markup, style and script in one text, and the headers that allow these alone. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { build } from 'esbuild';

export interface DashboardAnswer {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const folder = path.join(import.meta.dirname, 'lib/dashboard');

export async function buildDashboard(): Promise<DashboardAnswer> {
  const [markup, style, script] = await Promise.all([
    readFile(path.join(folder, 'page.html'), 'utf8'),
    bundle('style.css'),
    bundle('main.ts'),
  ]);
  const body = markup
    .replace('<style></style>', () => `<style>${style}</style>`)
    .replace('<script></script>', () => `<script>${script}</script>`);
  return { headers: headersFor(style, script), body };
}

async function bundle(entry: string): Promise<string> {
  const { outputFiles } = await build({
    absWorkingDir: folder,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    format: 'iife',
    target: ['es2024', 'chrome123', 'firefox120', 'safari17.5'],
    legalComments: 'none',
    write: false,
  });
  return outputFiles.map(({ text }) => text.trim()).join('');
}

function headersFor(style: string, script: string): DashboardAnswer['headers'] {
  const policy = [
    "default-src 'none'",
    "connect-src 'self'",
    'img-src data:',
    `script-src ${sourceOf(script)}`,
    `style-src ${sourceOf(style)}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ];
  return {
    'Content-Type': 'text/html; charset=utf-8',
    'Cache-Control': 'no-store',
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Content-Security-Policy': policy.join('; '),
  };
}

function sourceOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
