/** The copier between two registries of this machine, with a state that several processes may share. */

import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createCore } from '../../../lib/app.ts';
import { Clients } from '../../../lib/clients.ts';
import { readRules } from '../../../lib/config/rules.ts';
import { createHostGate } from '../../../lib/registry/gate.ts';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import type { Stores } from '../../../lib/storage/ports.ts';
import { after } from '../../../lib/sync/concurrency.ts';
import { defaultLimits, type Limits } from '../../../lib/sync/copy/limits.ts';
import type { CopyResult } from '../../../lib/sync/copy/outcome.ts';
import type { Work } from '../../../lib/sync/copy/work.ts';
import type { CopyRequest } from '../../../lib/sync/request.ts';
import type { SyncEvent } from '../../../lib/sync/runs/events.ts';
import { Tally } from '../../../lib/sync/runs/tally.ts';
import type { Content } from '../../local/content.ts';
import { put } from '../../local/content.ts';
import { type LocalRegistry, startRegistry } from '../../local/registry.ts';
import type { LoggedRequest } from '../../local/server.ts';

export const MiB = 1024 * 1024;
/** What a test's blobs are sent in, where it says nothing else. */
export const chunkBytes = MiB;

export interface CopyOptions {
  readonly source?: string;
  readonly tag?: string;
  readonly target?: string;
  readonly force?: boolean;
  readonly stop?: AbortSignal;
  readonly graceMs?: number;
  readonly patienceMs?: number;
  readonly yields?: boolean;
  readonly onEvent?: (event: SyncEvent) => void;
}

export interface Copied extends CopyResult {
  readonly tally: Tally;
}

/** One process with its engine. */
export interface Engine {
  copy(options?: CopyOptions): Promise<Copied>;
  close(): Promise<void>;
}

export class Bench {
  readonly source: LocalRegistry;
  readonly target: LocalRegistry;
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'hubferry-copy-'));
  readonly #engines: Engine[] = [];

  private constructor(source: LocalRegistry, target: LocalRegistry) {
    this.source = source;
    this.target = target;
  }

  static async start(): Promise<Bench> {
    return new Bench(await startRegistry(), await startRegistry());
  }

  get stores(): Stores {
    return openFolderStores(this.#folder);
  }

  /** Ends the lease on a checkpoint, as if its time were over. */
  breakLease(key: string): void {
    const [file = ''] = globSync(`checkpoints*/**/${path.basename(key)}@*`, { cwd: this.#folder });
    rmSync(path.join(this.#folder, file));
  }

  push(tag: string, content: Content, repository = 'a/b'): void {
    put(this.source.store, repository, tag, content);
  }

  digestAt(tag: string, repository = 'm/b'): string | undefined {
    return this.target.repository(repository).tags.get(tag)?.digest;
  }

  /** Requests of one method whose path has this in it. */
  asked(side: LocalRegistry, method: string, part: string): LoggedRequest[] {
    return side.requests.filter((request) => request.method === method && request.url.includes(part));
  }

  /** Another process on the same state. */
  engine(limits: Partial<Limits> = {}, chunkSize = chunkBytes): Engine {
    const names = { source: this.source.host, target: this.target.host };
    const text = JSON.stringify({
      registries: { [names.target]: { chunkSize } },
      rules: ['a/b', 'a/other'].map((path) => ({
        name: path,
        source: `${names.source}/${path}`,
        target: ['m/b', 'm/other', 'far/away'].map((path) => `${names.target}/${path}`),
      })),
    });
    const rules = readRules(text, { env: {}, variables: 'all' });
    const identity = () => {
      throw new Error('No identity is needed here');
    };
    const gate = createHostGate();
    const clients = new Clients({ env: {}, gate, retries: 1, maxWaitMs: 60_000, blobs: 4, identity });
    const core = createCore({
      rules,
      stores: this.stores,
      clients,
      limits: { ...defaultLimits, ...limits },
      repositoryPrefixes: [],
    });
    const engine: Engine = {
      async copy({
        source = 'a/b',
        tag = '1',
        target: path = 'm/b',
        force = false,
        stop = new AbortController().signal,
        graceMs = 60_000,
        patienceMs = 60_000,
        yields = false,
        onEvent,
      } = {}) {
        const rule = rules.rules.find(({ name }) => name === source);
        const target = rule?.targets.find((one) => one.path === path);
        if (rule === undefined || target === undefined) throw new Error('There is no such rule');
        const tally = new Tally();
        const work: Work = {
          stop,
          end: after(stop, graceMs),
          tally,
          onEvent: onEvent ?? (() => {}),
          patienceMs,
          yields,
          reserve: 0,
          admitPull: () => Promise.reject(new Error('Nothing here is billed')),
        };
        const request: CopyRequest = {
          kind: 'copy',
          id: 'test',
          run: 'test',
          rule: rule.name,
          source: `${names.source}/${source}`,
          target: `${names.target}/${path}`,
          tags: [{ source: tag, target: tag }],
          reason: 'new tag',
          force,
          attempt: 0,
        };
        const result = await core.copier.copy(request, rule, core.open(rule, target, tally), work);
        return { ...result, tally };
      },
      close: () => clients.close(),
    };
    this.#engines.push(engine);
    return engine;
  }

  async close(): Promise<void> {
    await Promise.all(this.#engines.map((engine) => engine.close()));
    await Promise.all([this.source.close(), this.target.close()]);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
