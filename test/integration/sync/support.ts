/** The engine of the command line between stand-ins, with its state in a folder of its own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createEngine } from '../../../lib/app.ts';
import type { CompareOptions, Engine } from '../../../lib/cli/engine.ts';
import { readRules } from '../../../lib/config/rules.ts';
import type { OnEvent, SyncEvent } from '../../../lib/sync/runs/events.ts';
import type { Line, Report } from '../../../lib/sync/runs/report.ts';
import { type LocalAcr, startAcr } from '../../local/acr.ts';
import { type LocalDockerHub, startDockerHub } from '../../local/dockerhub.ts';
import { type LocalRegistry, startRegistry } from '../../local/registry.ts';
import type { LoggedRequest } from '../../local/server.ts';

const admin = { username: 'admin', password: 'admin-password' };

/** Docker Hub, an ACR, and two registries that only speak the distribution API. */
export class World {
  readonly hub: LocalDockerHub;
  readonly acr: LocalAcr;
  /** A source that lists names alone. */
  readonly plain: LocalRegistry;
  /** A target that lists names alone. */
  readonly other: LocalRegistry;
  readonly #folders: string[] = [];
  #folder = '';

  private constructor(hub: LocalDockerHub, acr: LocalAcr, plain: LocalRegistry, other: LocalRegistry) {
    this.hub = hub;
    this.acr = acr;
    this.plain = plain;
    this.other = other;
  }

  static async start(): Promise<World> {
    const world = await Promise.all([
      startDockerHub({ anonymousPulls: undefined }),
      startAcr({ admin }),
      startRegistry(),
      startRegistry(),
    ]);
    return new World(...world);
  }

  /** Empties all registries and forgets the state. */
  async reset(): Promise<void> {
    for (const side of [this.hub, this.acr, this.plain, this.other]) side.store.repositories.clear();
    for (const server of this.#servers) {
      server.requests.length = 0;
      server.intercept = undefined;
    }
    this.hub.tellsDigests = true;
    await this.forgetState();
  }

  async forgetState(): Promise<void> {
    this.#folder = await mkdtemp(path.join(tmpdir(), 'hubferry-plans-'));
    this.#folders.push(this.#folder);
  }

  async close(): Promise<void> {
    await Promise.all([this.hub, this.acr, this.plain, this.other].map((side) => side.close()));
    await Promise.all(this.#folders.map((folder) => rm(folder, { recursive: true, force: true })));
  }

  /** Everything that was asked of a side since the last reset. */
  get sourceRequests(): readonly LoggedRequest[] {
    const { registry, api } = this.hub;
    return [...registry.requests, ...api.requests, ...this.plain.requests];
  }

  get targetRequests(): readonly LoggedRequest[] {
    return [...this.acr.requests, ...this.other.requests];
  }

  forgetRequests(): void {
    for (const server of this.#servers) server.requests.length = 0;
  }

  get #servers() {
    const { registry, tokens, api } = this.hub;
    return [registry, tokens, api, this.acr, this.plain, this.other];
  }

  /** Fills in `$acr`, `$plain` and `$other`. */
  text(text: string): string {
    return text
      .replaceAll('$acr', this.acr.host)
      .replaceAll('$plain', this.plain.host)
      .replaceAll('$other', this.other.host);
  }

  plan(rules: string, options: Partial<CompareOptions> = {}) {
    return this.#with(rules, (engine) => engine.plan({ ...unasked, ...options }));
  }

  sync(rules: string, options: Partial<CompareOptions> = {}) {
    return this.#with(rules, (engine) => engine.sync({ ...unasked, ...options }));
  }

  verify(rules: string, options: Partial<CompareOptions> = {}) {
    return this.#with(rules, (engine) => engine.verify({ ...unasked, ...options }));
  }

  /** What the engine told in the last run. */
  events: readonly SyncEvent[] = [];

  async #with<T>(rules: string, work: (engine: Engine) => Promise<T>): Promise<T> {
    const events: SyncEvent[] = [];
    const onEvent: OnEvent = (event) => events.push(event);
    const { hub, acr } = this;
    const registries = {
      'docker.io': { endpoint: hub.url, hubApi: hub.apiUrl },
      [acr.host]: { kind: 'acr', endpoint: acr.url, ca: acr.caFile, ...admin },
    };
    const text = `registries: ${JSON.stringify(registries)}\nrules:\n${this.text(rules)}`;
    const engine = await createEngine({
      rules: readRules(text, { env: {}, variables: 'all' }),
      state: { kind: 'folder', path: this.#folder },
      options: { proc: 4, retries: 0 },
      env: {},
      onEvent,
      signal: new AbortController().signal,
    });
    try {
      return await work(engine);
    } finally {
      await engine.close();
      this.events = events;
    }
  }
}

const unasked: CompareOptions = { force: false, allowMassDelete: false, wait: 0 };

/** A report as people read it: `1.0 copy (new tag)`, in order; with another name at the target `1.0 -> stable copy (new tag)`. */
export function told<Outcome extends string>({ tags }: Pick<Report<Outcome>, 'tags'>): string[] {
  return tags.map(lineOf).sort();
}

function lineOf({ source, target, outcome, reason, error }: Line): string {
  const [from, to] = [shortNameOf(source), shortNameOf(target)];
  const why = error?.code ?? reason;
  return `${from === to ? from : `${from} -> ${to}`} ${outcome}${why === undefined ? '' : ` (${why})`}`;
}

/** The tag; a digest's first digits; or what stands for a whole repository. */
function shortNameOf(name: string): string {
  const [, digest] = /@(sha\d+:[a-f0-9]{6})/.exec(name) ?? [];
  return digest ?? /(?<=\/[^/]*:)[^/]*$/.exec(name)?.[0] ?? '*';
}
