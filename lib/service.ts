/** Composition root of the function app: one a process, built when the first function is called. */
import { createCore } from './app.ts';
import type { Finding } from './cli/engine.ts';
import { Clients } from './clients.ts';
import { type AppSettings, readAppSettings, type StorageSettings } from './config/environment.ts';
import type { Rules } from './config/model.ts';
import { readRules } from './config/rules.ts';
import { diagnose, examine } from './doctor.ts';
import { ConfigError, type ErrorSummary, HubferryError, summarize } from './errors.ts';
import { probesOfApp } from './health.ts';
import { keepHeapSmall } from './heap.ts';
import { azureIdentity } from './identity.ts';
import type { Wish } from './manual.ts';
import { Notifier } from './notify.ts';
import { createSharedGate } from './shared-gate.ts';
import type { StorageConnection } from './storage/azure.ts';
import { openBlobStores } from './storage/blob.ts';
import type { Stores } from './storage/ports.ts';
import { type AzureQueues, openQueues } from './storage/queue.ts';
import { defaultLimits } from './sync/copy/limits.ts';
import type { Core } from './sync/plan/core.ts';
import { Control } from './sync/queue/control.ts';
import type { Begun } from './sync/queue/dispatcher.ts';
import { Gathering } from './sync/queue/gathering.ts';
import { Outstanding } from './sync/queue/outstanding.ts';
import { createQueueEngine, type QueueEngine } from './sync/queue/queue-engine.ts';
import { readStatus, type Status } from './sync/queue/standing.ts';
import type { Push } from './sync/queue/wanted.ts';
import { idShape, newRunId } from './sync/run-id.ts';
import { RunBook } from './sync/runs/book.ts';
import type { EventFields, LogLevel, OnEvent, SyncEvent } from './sync/runs/events.ts';
import { ParkingLot } from './sync/runs/parked.ts';
import type { AnyReport, Trigger } from './sync/runs/report.ts';
import { longestWaitMs } from './sync/waiting.ts';

/** Where the rules live in the container `config`. */
const rulesKey = 'sync.yaml';
/** The last version that was valid, in the container `state`. */
const goodRulesKey = 'rules/good.yaml';

interface InForce {
  readonly etag: string;
  readonly rules: Rules;
  readonly core: Core;
}

/** Why the newest rules are not in force is known here alone. */
export interface AppStatus extends Status {
  readonly rulesError?: ErrorSummary;
}

/** What `control` answers. */
export type Controlled =
  | { readonly paused: boolean }
  | { readonly run: string; readonly cancelled: true }
  | Begun;

export class Service {
  readonly #settings: AppSettings;
  readonly #stores: Stores;
  readonly #queues: AzureQueues;
  readonly #clients: Clients;
  readonly #book: RunBook;
  readonly #control: Control;
  readonly #parked: ParkingLot;
  readonly #notifier: Notifier;
  #rules: InForce | undefined;
  #refusedEtag: string | undefined;
  #rulesError: ErrorSummary | undefined;
  readonly #pushes: Gathering<Push, Begun>;
  /** Of the invocation that asked last: what concerns the whole process is told there. */
  #onEvent: OnEvent = () => undefined;

  constructor(settings: AppSettings) {
    this.#settings = settings;
    const connection = connectionOf(settings.storage);
    const local = settings.storage.kind === 'connection';
    this.#stores = openBlobStores(connection, { create: local });
    this.#control = new Control(this.#stores.state);
    this.#parked = new ParkingLot(this.#stores.state);
    this.#book = new RunBook(this.#stores.runs, this.#parked);
    this.#notifier = new Notifier({
      state: this.#stores.state,
      on: settings.notifyOn,
      url: () => settings.notifyUrl(),
    });
    this.#pushes = new Gathering({
      work: async (pushes) => {
        const { dispatcher } = await this.engine(this.#onEvent);
        return dispatcher.pushAll(this.runFor('webhook', new Date()), pushes);
      },
      most: 100,
      patienceMs: 10_000,
    });
    this.#queues = openQueues(connection, { create: local });
    this.#clients = new Clients({
      env: process.env,
      gate: createSharedGate(this.#stores.state, {
        onWaiting: (host, until) => this.#onEvent({ type: 'waiting', host, until }),
      }),
      retries: defaultLimits.retries,
      maxWaitMs: longestWaitMs,
      blobs: defaultLimits.blobs,
      identity: () => azureIdentity(settings.azureClientId),
    });
  }

  /** Takes what a webhook tells; what comes at the same time goes into the book together. @throws ERR_STORAGE in a flood */
  push(push: Push, onEvent: OnEvent): Promise<Begun> {
    this.#onEvent = onEvent;
    return this.#pushes.add(push);
  }

  /** The messages' engine under the rules that are in force now. */
  async engine(onEvent: OnEvent): Promise<QueueEngine> {
    this.#onEvent = onEvent;
    const { rules, core } = await this.#current();
    const { copyDeadline, pruneLimit, pullReserve } = this.#settings;
    return createQueueEngine({
      core,
      rules,
      queues: this.#queues,
      book: this.#book,
      parked: this.#parked,
      outstanding: new Outstanding(this.#stores.state, this.#parked),
      deadlineMs: copyDeadline,
      pruneLimit,
      pullReserve,
      checkpoints: this.#stores.checkpoints,
      state: this.#stores.state,
      control: this.#control,
      onEvent: keepHeapSmall(onEvent),
      announce: (report) => this.#announce(report, onEvent),
    });
  }

  /** What the timer does each minute. */
  async release(onEvent: OnEvent): Promise<void> {
    try {
      await (await this.engine(onEvent)).releaser.release();
    } finally {
      await this.#deliver(onEvent);
    }
  }

  /** Notifications hold up nothing, and are told while rules are refused too. */
  async #deliver(onEvent: OnEvent): Promise<void> {
    const log = (level: LogLevel, message: string, fields: EventFields) =>
      onEvent({ type: 'log', level, message, fields });
    try {
      await this.#notifier.deliver(log);
    } catch (error) {
      const { code, message } = summarize(error);
      log('warn', 'notification failed', { code, error: message });
    }
  }

  async #announce(report: AnyReport, onEvent: OnEvent): Promise<void> {
    const rules = this.#rules?.rules.rules ?? [];
    const prunes = (name: string) => rules.some((rule) => rule.name === name && rule.prune);
    await this.#notifier.note(report, prunes);
    onEvent(closed(report));
  }

  async status(): Promise<AppStatus> {
    const rulesError = await this.#current().then(() => this.#rulesError, whyRefused);
    const { runs, checkpoints } = this.#stores;
    const desk = { book: this.#book, control: this.#control, parked: this.#parked, runs, checkpoints };
    const status = await readStatus(desk, Date.now());
    return { ...status, ...(rulesError === undefined ? {} : { rulesError }) };
  }

  async report(run: string): Promise<AnyReport | undefined> {
    return idShape.test(run) ? this.#book.report(run) : undefined;
  }

  /** Does what people ask for. @throws ERR_RUN_UNKNOWN, ERR_REQUEST_INVALID */
  async control(wish: Wish, onEvent: OnEvent): Promise<Controlled> {
    // What no run can be called is not looked for in storage.
    if ('run' in wish && !idShape.test(wish.run))
      throw new HubferryError('ERR_RUN_UNKNOWN', 'There is no such run');
    const done = await this.#carryOut(wish, onEvent);
    onEvent({ type: 'log', level: 'info', message: 'control', fields: { ...wish } });
    return done;
  }

  async #carryOut(wish: Wish, onEvent: OnEvent): Promise<Controlled> {
    switch (wish.action) {
      case 'pause':
        await this.#control.pause();
        return { paused: true };
      case 'resume':
        await this.#control.resume();
        return { paused: false };
      case 'cancel':
        await (await this.engine(onEvent)).releaser.cancel(wish.run);
        return { run: wish.run, cancelled: true };
      case 'retry':
        return (await this.engine(onEvent)).dispatcher.retry(this.runFor('manual', new Date()), wish.run);
    }
  }

  async health(signal: AbortSignal): Promise<Finding[]> {
    const { storage, azureClientId, pullReserve } = this.#settings;
    const identity = storage.kind === 'identity' ? azureIdentity(azureClientId) : undefined;
    const rules = async () => {
      const { rules } = await this.#current();
      return { count: rules.rules.length, error: this.#rulesError };
    };
    const patient = {
      settings: this.#settings,
      queues: this.#queues,
      control: this.#control,
      rules,
      identity,
      signal,
    };
    const findings = await examine(probesOfApp(patient));
    const current = await this.#current().catch(() => undefined);
    if (current === undefined) return findings;
    const sides = await diagnose({ ...current, signal, stores: this.#stores, pullReserve });
    return [...findings, ...sides];
  }

  /** Webhooks of one minute share a run; any other trigger opens its own. */
  runFor(trigger: Trigger, now: Date): string {
    return trigger === 'webhook'
      ? `${now.toISOString().slice(0, 16).replace(/[-:]/g, '')}-webhook`
      : newRunId(now, trigger);
  }

  /** The rules of the blob by its etag; while a new version is wrong, the last good one stays in force. */
  async #current(): Promise<InForce> {
    const { text, etag } = await this.#readText();
    if (this.#rules?.etag === etag) return this.#rules;
    let engine: Omit<InForce, 'etag'>;
    try {
      engine = this.#engineFor(text);
    } catch (error) {
      this.#refuse(etag, whyRefused(error));
      this.#rules ??= await this.#lastGood();
      if (this.#rules === undefined) throw error;
      return this.#rules;
    }
    this.#rules = { etag, ...engine };
    this.#rulesError = undefined;
    await this.#stores.state.put(goodRulesKey, Buffer.from(text));
    return this.#rules;
  }

  #engineFor(text: string): Omit<InForce, 'etag'> {
    const rules = readRules(text, { file: rulesKey, env: this.#settings.variables, variables: 'prefixed' });
    const core = createCore({
      rules,
      stores: this.#stores,
      clients: this.#clients,
      limits: defaultLimits,
      repositoryPrefixes: this.#settings.repositoryPrefixes,
    });
    return { rules, core };
  }

  #refuse(etag: string, error: ErrorSummary): void {
    this.#rulesError = error;
    if (this.#refusedEtag === etag) return;
    this.#refusedEtag = etag;
    const { code, message } = error;
    this.#onEvent({
      type: 'log',
      level: 'error',
      message: 'rules refused',
      fields: { code, error: message },
    });
  }

  /** What another process had in force, for one that never saw it. */
  async #lastGood(): Promise<InForce | undefined> {
    const document = await this.#stores.state.get(goodRulesKey);
    if (document === undefined) return undefined;
    return { etag: '', ...this.#engineFor(Buffer.from(document.bytes).toString()) };
  }

  async #readText(): Promise<{ text: string; etag: string }> {
    const { syncConfig } = this.#settings;
    if (syncConfig !== undefined) return { text: syncConfig, etag: 'SYNC_CONFIG' };
    const document = await this.#stores.config.get(rulesKey);
    if (document === undefined) {
      throw new HubferryError(
        'ERR_SETTING',
        `There is no ${rulesKey} in the container config, and no SYNC_CONFIG`,
      );
    }
    return { text: Buffer.from(document.bytes).toString(), etag: document.etag };
  }
}

/** With the line and the key: whoever reads it has the file before them, and nothing else. */
function whyRefused(error: unknown): ErrorSummary {
  const { code, message } = summarize(error);
  return { code, message: error instanceof ConfigError ? `${error.where}${message}` : message };
}

/** The line that the alerts on runs count. */
function closed({ run, totals }: AnyReport): SyncEvent {
  const { requests: _, bytesCopied: bytes, ...counters } = totals;
  const durationMs = Date.parse(run.finishedAt ?? run.startedAt) - Date.parse(run.startedAt);
  const marks = {
    ...(run.cancelled && { cancelled: true }),
    ...(run.dryRun && { dryRun: true }),
    ...(run.partial && { partial: true }),
  };
  const fields = { run: run.id, trigger: run.trigger, durationMs, bytes, ...counters, ...marks };
  return { type: 'log', level: 'info', message: 'run closed', fields };
}

function connectionOf(storage: StorageSettings): StorageConnection {
  if (storage.kind === 'connection') return { connectionString: storage.connectionString };
  const { blobServiceUri, queueServiceUri, clientId } = storage;
  return { blobServiceUri, queueServiceUri, credential: azureIdentity(clientId) };
}

let service: Service | undefined;

/** The one service of this process. @throws ERR_SETTING while a setting is wrong */
export function getService(): Service {
  service ??= new Service(readAppSettings());
  return service;
}
