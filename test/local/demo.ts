/**
 * `npm run demo`: the story of the product, all on this machine, with the published function app. Every figure that it
 * tells is checked, and a wrong one ends it. `--keep` leaves it running.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { Report } from '../../lib/sync/runs/report.ts';
import { buildApp, type Cloud, startCloud } from './cloud.ts';
import { buildIndex, buildManifest, randomBlob } from './content.ts';
import { webhookBody } from './dockerhub.ts';

const repository = 'acme/app';
const mirror = 'mirror/app';
const rules = `rules:
  - name: app
    source: docker.io/${repository}
    target: $ACR/${mirror}
    prune: true
`;
const admin = { username: 'demo', password: 'demo-password' };
const MiB = 1024 * 1024;
/** A push that is not at the target after so many milliseconds will not come. */
const patienceMs = 60_000;

type Totals = Readonly<Record<string, number>>;

class Story {
  readonly #cloud: Cloud;
  readonly #base = randomBlob('base', 8 * MiB);

  constructor(cloud: Cloud) {
    this.#cloud = cloud;
  }

  async tell(): Promise<void> {
    for (let minor = 0; minor < 5; minor += 1) await this.#push(`1.${minor}`, this.#single(`1.${minor}`));
    await this.#push('latest', this.#latest('first'));

    console.log('\n1. The first daily run copies everything.');
    const first = await this.#run('schedule', { copied: 6, failed: 0 });
    console.log(`   ${summaryOf(first)}`);

    console.log('\n2. The second daily run finds nothing to do.');
    const idle = { copied: 0, unchanged: 6, bytesCopied: 0, blobsCopied: 0, pulls: 0 };
    console.log(`   ${summaryOf(await this.#run('schedule', idle))}`);

    console.log('\n3. A push that changes one layer, told by its webhook.');
    await this.#pushWithWebhook();

    console.log('\n4. One tag moves, one is deleted at Docker Hub; the next daily run follows.');
    await this.#push('1.4', this.#single('1.4, once more'));
    this.#cloud.hub.repository(repository).removeTag('1.0');
    const changed = { copied: 1, deleted: 1, unchanged: 4, failed: 0 };
    console.log(`   ${summaryOf(await this.#run('schedule', changed))}`);

    console.log('\n5. The weekly check compares both sides, down to every blob.');
    const { same, moved, missing, incomplete, extra } = await this.#run('verify', { tags: 5, same: 5 });
    console.log(
      `   ${same} same, ${moved} moved, ${missing} missing, ${incomplete} incomplete, ${extra} extra`,
    );
  }

  #single(seed: string) {
    return buildManifest({ seed, layers: [this.#base, randomBlob(seed, 200_000)] });
  }

  /** An index whose first platform alone has a layer of this seed. */
  #latest(seed: string) {
    const [amd64, arm64] = ['amd64', 'arm64'].map((architecture) => {
      const platform = { os: 'linux', architecture };
      const top = randomBlob(architecture === 'amd64' ? seed : 'steady', MiB);
      const config = Buffer.from(JSON.stringify(platform));
      return { platform, manifest: buildManifest({ config, layers: [this.#base, top] }) };
    });
    assert(amd64 && arm64);
    return buildIndex([amd64, arm64]);
  }

  async #push(tag: string, content: ReturnType<typeof buildManifest>): Promise<void> {
    await this.#cloud.hub.push(repository, tag, content);
  }

  async #pushWithWebhook(): Promise<void> {
    const { host } = this.#cloud;
    const pushed = this.#latest('second');
    await this.#push('latest', pushed);
    const started = performance.now();
    const answer = await fetch(`${host.url}/api/webhook`, {
      method: 'POST',
      headers: this.#headers,
      body: JSON.stringify(webhookBody(repository, 'latest')),
    });
    assert.equal(answer.status, 202);
    const { run } = (await answer.json()) as { run: string };
    await this.#mirrored('latest', pushed.descriptor.digest);
    const seconds = (performance.now() - started) / 1000;
    await host.idle();
    const totals = await this.#report(run, { copied: 1, blobsCopied: 1, failed: 0 });
    console.log(`   ${seconds.toFixed(1)} s after the webhook the tag is at ACR.`);
    console.log(`   ${summaryOf(totals)}`);
  }

  async #mirrored(tag: string, digest: string): Promise<void> {
    const until = performance.now() + patienceMs;
    while (this.#cloud.acr.repository(mirror).tags.get(tag)?.digest !== digest) {
      assert(performance.now() < until, `${tag} did not arrive`);
      await delay(20);
    }
  }

  /** Fires a timer, waits for its run to end, and reads the report. */
  async #run(timer: 'schedule' | 'verify', expected: Totals): Promise<Totals> {
    const { host } = this.#cloud;
    await host.invokeTimer(timer);
    await host.idle();
    const { runs } = await this.#get<{ runs: { run: { id: string; trigger: string } }[] }>('status');
    const last = runs.find((one) => one.run.trigger === timer);
    assert(last, `The ${timer} run left no report`);
    return this.#report(last.run.id, expected);
  }

  /** @throws where one of the totals is not as expected */
  async #report(run: string, expected: Totals): Promise<Totals> {
    const { totals } = await this.#get<Report>(`status/${run}`);
    assert.partialDeepStrictEqual({ ...totals }, { ...expected });
    return totals as unknown as Totals;
  }

  async #get<T>(path: string): Promise<T> {
    const answer = await fetch(`${this.#cloud.host.url}/api/${path}`, { headers: this.#headers });
    return (await answer.json()) as T;
  }

  get #headers(): Record<string, string> {
    return { 'x-functions-key': this.#cloud.host.key() };
  }
}

function summaryOf(totals: Totals): string {
  const {
    copied = 0,
    unchanged = 0,
    deleted = 0,
    failed = 0,
    blobsCopied = 0,
    bytesCopied = 0,
    pulls,
  } = totals;
  const { source, target } = totals.requests as unknown as Report['totals']['requests'];
  const moved = `${several(blobsCopied, 'blob')} of ${(bytesCopied / MiB).toFixed(1)} MiB moved, ${several(pulls ?? 0, 'pull')}`;
  const asked = `${several(source, 'request')} to Docker Hub, ${target} to ACR`;
  return `${copied} copied, ${unchanged} unchanged, ${deleted} deleted, ${failed} failed; ${moved}; ${asked}`;
}

function several(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}

/** What a person can point skopeo at. */
function addressesOf({ hub, acr }: Cloud): string {
  const hubHost = new URL(hub.url).host;
  const login = `--creds ${admin.username}:${admin.password} --tls-verify=false`;
  return `
Docker Hub  skopeo list-tags --tls-verify=false docker://${hubHost}/${repository}
            skopeo inspect --raw --tls-verify=false docker://${hubHost}/${repository}:latest
ACR         skopeo list-tags ${login} docker://${acr.host}/${mirror}
            skopeo inspect --raw ${login} docker://${acr.host}/${mirror}:latest`;
}

const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } });
console.log(
  'Building the function app, and starting Docker Hub, ACR, an identity and Azure Storage on this machine …',
);
const app = await buildApp();
const cloud = await startCloud({
  appRoot: app.appRoot,
  rules,
  settings: { PRUNE_LIMIT: '1' },
  acr: { admin },
});
try {
  await new Story(cloud).tell();
  const { host } = cloud;
  const dashboard = `Dashboard   ${host.url}/api/dashboard (key: ${host.key()})`;
  if (values.keep) {
    console.log(addressesOf(cloud));
    console.log(`${dashboard}\nCtrl-C ends it.`);
    await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
  } else {
    console.log('\nAll of it ends here; `npm run demo -- --keep` leaves it running:');
    console.log(dashboard);
  }
} finally {
  await cloud.close();
  app.remove();
}
