/** One page without data: it asks for a key, keeps it for the browser session, and reads `status` with it in a header. */
import { createHash } from 'node:crypto';

const script = `
const at = (id) => document.getElementById(id);
const cell = (row, text) => { row.insertCell().textContent = text; };
async function show() {
  const key = sessionStorage.getItem('key');
  if (!key) return;
  const answer = await fetch('status', { headers: { 'x-functions-key': key } });
  at('state').textContent = answer.ok ? '' : answer.status === 401 ? 'The key is wrong.' : 'The status cannot be read (' + answer.status + ').';
  if (!answer.ok) return;
  const status = await answer.json();
  at('runs').replaceChildren();
  for (const { run, totals } of status.runs) {
    const row = at('runs').insertRow();
    for (const text of [run.startedAt, run.trigger, totals.tags, totals.copied ?? '', totals.failed, totals.bytesCopied]) cell(row, text);
  }
  at('state').textContent = status.runs.length === 0 ? 'No run yet.' : status.paused ? 'Paused.' : '';
}
at('form').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('key', at('key').value);
  show();
});
show();
setInterval(show, 15000);
`;

const style = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
`;

export const dashboardPage = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>hubferry</title><style>${style}</style></head>
<body>
<h1>hubferry</h1>
<form id="form"><label>Function key <input id="key" type="password" autocomplete="off" required></label> <button>Show</button></form>
<p id="state" role="status"></p>
<table><caption>Last runs</caption>
<thead><tr><th scope="col">Started</th><th scope="col">Trigger</th><th scope="col">Tags</th><th scope="col">Copied</th><th scope="col">Failed</th><th scope="col">Bytes</th></tr></thead>
<tbody id="runs"></tbody></table>
<script>${script}</script>
</body>
</html>
`;

function sourceOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

export const dashboardHeaders = {
  'Content-Type': 'text/html; charset=utf-8',
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'Content-Security-Policy': `default-src 'none'; connect-src 'self'; script-src ${sourceOf(script)}; style-src ${sourceOf(style)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
};
