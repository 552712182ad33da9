/**
 * `npm run demo`: the story of the product, all on this machine, with the published function app. `--keep` leaves it running.
 */

import { once } from 'node:events';
import { parseArgs } from 'node:util';
import type { Report } from '../../lib/sync/report.ts';
import { buildApp, startCloud } from './cloud.ts';
import { buildManifest, buildMultiPlatform } from './content.ts';
import { webhookBody } from './dockerhub.ts';

const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } });

const rules = `rules:
  - name: app
    source: docker.io/acme/app
    target: $ACR/mirror/app
    prune: true
`;
const platforms = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
];
const repository = 'acme/app';

const MiB = 1024 * 1024;

function tell(text: string): void {
  console.log(text);
}

tell(
  'Building the function app, and starting Docker Hub, ACR, an identity and Azure Storage on this machine …',
);
const app = await buildApp();
const cloud = await startCloud({
  appRoot: app.appRoot,
  rules,
  settings: { PRUNE_LIMIT: '1' },
});
const { hub, acr, host } = cloud;
const headers = { 'x-functions-key': host.key() };

async function get<T>(path: string): Promise<T> {
  const answer = await fetch(`${host.url}/api/${path}`, { headers });
  return (await answer.json()) as T;
}

/** Fires a timer, waits for its run to end, and reads the report. */
async function run(timer: 'schedule' | 'verify'): Promise<Report> {
  await host.invokeTimer(timer);
  await host.idle();
  const { runs } = await get<{ runs: { run: { id: string; trigger: string } }[] }>('status');
  const last = runs.find((one) => one.run.trigger === timer);
  if (last === undefined) throw new Error(`The ${timer} run left no report`);
  return get<Report>(`status/${last.run.id}`);
}

function summary({ totals }: Report): string {
  const { copied = 0, unchanged = 0, deleted = 0, failed = 0, bytesCopied, pulls, requests } = totals;
  const size = `${(bytesCopied / MiB).toFixed(1)} MiB`;
  const asked = `${requests.source} requests to Docker Hub, ${requests.target} to ACR`;
  return `${copied} copied, ${unchanged} unchanged, ${deleted} deleted, ${failed} failed; ${size} moved, ${pulls} pulls; ${asked}`;
}

async function mirrored(tag: string, digest: string): Promise<void> {
  while (acr.repository('mirror/app').tags.get(tag)?.digest !== digest) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

try {
  const shared = 'base';
  for (let minor = 0; minor < 5; minor += 1) {
    await hub.push(
      repository,
      `1.${minor}`,
      buildManifest({ seed: shared, layers: [8 * MiB, 200_000 + minor] }),
    );
  }
  await hub.push(repository, 'latest', buildMultiPlatform('first', platforms, [2 * MiB]));

  tell('\n1. The first daily run copies everything.');
  tell(`   ${summary(await run('schedule'))}`);

  tell('\n2. The second daily run finds nothing to do.');
  tell(`   ${summary(await run('schedule'))}`);

  tell('\n3. A push, told by its webhook.');
  const pushed = buildMultiPlatform('second', platforms, [MiB]);
  await hub.push(repository, 'latest', pushed);
  const started = performance.now();
  const answer = await fetch(`${host.url}/api/webhook`, {
    method: 'POST',
    headers,
    body: JSON.stringify(webhookBody(repository, 'latest')),
  });
  await mirrored('latest', pushed.descriptor.digest);
  tell(
    `   ${answer.status}, and ${((performance.now() - started) / 1000).toFixed(1)} s later the tag is at ACR.`,
  );
  await host.idle();

  tell('\n4. One tag moves, one is deleted at Docker Hub; the next daily run follows.');
  await hub.push(repository, '1.4', buildManifest({ seed: shared, layers: [8 * MiB, 300_000] }));
  hub.repository(repository).removeTag('1.0');
  tell(`   ${summary(await run('schedule'))}`);

  tell('\n5. The weekly check compares both sides, down to every blob.');
  const { totals } = await run('verify');
  const {
    same = 0,
    moved = 0,
    missing = 0,
    incomplete = 0,
    extra = 0,
  } = totals as typeof totals & Record<string, number>;
  tell(`   ${same} same, ${moved} moved, ${missing} missing, ${incomplete} incomplete, ${extra} extra`);

  tell(`\nDashboard: ${host.url}/api/dashboard (key: ${host.key()})`);
  if (values.keep) {
    tell(`Docker Hub: ${hub.url}   ACR: ${acr.url} (certificate ${acr.caFile})`);
    tell('Ctrl-C ends it.');
    await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  }
} finally {
  await cloud.close();
  app.remove();
}
