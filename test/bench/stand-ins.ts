/** Docker Hub and ACR as stand-ins that count what they are asked, and hubferry between them with the Azure identity. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type LocalAcr, startAcr } from '../local/acr.ts';
import { registriesOf } from '../local/cloud.ts';
import { type LocalDockerHub, startDockerHub } from '../local/dockerhub.ts';
import { type LocalIdentity, startIdentity } from '../local/identity.ts';
import type { LoggedRequest } from '../local/server.ts';
import type { Bench } from './benchmark.ts';
import type { Ended } from './process.ts';
import { hubferry } from './programs.ts';

export const repository = 'acme/app';
export const mirror = 'mirror/app';

/** For peers, which know no Azure identity. */
export const admin = { username: 'admin', password: 'of the stand-in' };

export interface StandIns {
  readonly hub: LocalDockerHub;
  readonly acr: LocalAcr;
  readonly identity: LocalIdentity;
}

export async function withStandIns<T>(work: (standIns: StandIns) => Promise<T>): Promise<T> {
  const [hub, acr, identity] = await Promise.all([
    startDockerHub({ anonymousPulls: undefined }),
    startAcr({ admin }),
    startIdentity(),
  ]);
  try {
    return await work({ hub, acr, identity });
  } finally {
    await Promise.all([hub.close(), acr.close(), identity.close()]);
  }
}

/** Runs hubferry over the one rule. */
export async function runRule(
  { hubferry: program }: Bench,
  { hub, acr, identity }: StandIns,
  args: readonly string[],
  cwd: string,
): Promise<Ended> {
  const rule = `rules:\n  - source: docker.io/${repository}\n    target: ${acr.host}/${mirror}\n`;
  await writeFile(path.join(cwd, 'sync.yaml'), registriesOf(hub, acr) + rule);
  return hubferry(program, args, { cwd, env: identity.env });
}

export interface Asked {
  readonly source: readonly LoggedRequest[];
  readonly target: readonly LoggedRequest[];
  readonly pulls: number;
}

/** What both sides were asked while something ran; the identity is not counted. */
export async function askedBy({ hub, acr }: StandIns, work: () => Promise<unknown>): Promise<Asked> {
  const sources = [hub.registry, hub.tokens, hub.cdn, hub.api];
  const targets = [acr, acr.data];
  for (const { requests } of [...sources, ...targets]) requests.length = 0;
  const pulls = hub.pulls;
  await work();
  return {
    source: sources.flatMap(({ requests }) => requests),
    target: targets.flatMap(({ requests }) => requests),
    pulls: hub.pulls - pulls,
  };
}

/** Requests that change something, logins left out. */
export function writesOf({ target }: Asked): readonly LoggedRequest[] {
  return target.filter(({ method, url }) => !/^(?:GET|HEAD)$/.test(method) && !url.startsWith('/oauth2/'));
}
