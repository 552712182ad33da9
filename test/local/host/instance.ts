/** One instance of an app: its worker process, its triggers and what runs now. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { FunctionMetadata, InvocationResponse, LogLevel, LogLine, TypedData } from './protocol.ts';
import { QueueListener } from './queue-listener.ts';
import type { HostOptions, Settings } from './settings.ts';
import { type Timer, type Triggers, triggersOf } from './triggers.ts';
import { InvocationFailed, WorkerProcess } from './worker-process.ts';

export interface InstanceOptions {
  readonly appRoot: string;
  readonly settings: Settings;
  /** Variables that the platform sets beside the app's settings. */
  readonly platform: Settings;
  /** Variables of the worker alone, over all others. */
  readonly workerSettings: Settings;
  readonly host: HostOptions;
  readonly leaseSeconds: number;
  readonly timers: boolean;
  readonly log: (line: LogLine) => void;
}

/** How long the app's `appTerminate` hooks may take. */
const terminateGraceMs = 5_000;

/** `setTimeout` takes no longer waits. */
const longestWaitMs = 2 ** 31 - 1;

export class Instance {
  readonly functions: readonly FunctionMetadata[];
  readonly triggers: Triggers;
  readonly #options: InstanceOptions;
  readonly #lost = new AbortController();
  readonly #listeners: readonly QueueListener[];
  #worker: Promise<WorkerProcess>;
  #running = 0;

  private constructor(
    options: InstanceOptions,
    worker: WorkerProcess,
    functions: readonly FunctionMetadata[],
    triggers: Triggers,
  ) {
    this.#options = options;
    this.functions = functions;
    this.triggers = triggers;
    this.#listeners = triggers.queues.map(({ name, queue, poison }) => {
      return new QueueListener({
        queue,
        poison,
        limits: options.host.extensions.queues,
        leaseSeconds: options.leaseSeconds,
        invoke: async (body, metadata) => void (await this.invoke(name, { string: body }, metadata)),
        log: (level, message) => this.#log(level, message, name),
        signal: this.#lost.signal,
      });
    });
    this.#worker = Promise.resolve(worker);
    this.#replaceWhenEnded(worker);
  }

  /** Loads the app and starts its triggers. */
  static async start(options: InstanceOptions): Promise<Instance> {
    const { worker, functions } = await startWorker(options);
    try {
      const triggers = triggersOf(functions, options.host, options.settings);
      const instance = new Instance(options, worker, functions, triggers);
      instance.#run();
      return instance;
    } catch (error) {
      await worker.kill();
      throw error;
    }
  }

  /** The worker process that runs now. */
  async pid(): Promise<number | undefined> {
    return (await this.#worker).pid;
  }

  /** Runs a function; rejects where it throws, or where the worker ends meanwhile. */
  async invoke(
    name: string,
    data: TypedData,
    triggerMetadata: Readonly<Record<string, TypedData>> = {},
  ): Promise<InvocationResponse> {
    const invocationId = randomUUID();
    const inputName = this.triggers.inputNames.get(name);
    if (inputName === undefined) throw new Error(`There is no function "${name}".`);
    const request = {
      invocationId,
      functionId: name,
      inputData: [{ name: inputName, data }],
      triggerMetadata,
    };
    const startedAt = performance.now();
    const ended = (how: string) => `(${how}, Duration=${Math.round(performance.now() - startedAt)}ms)`;
    this.#running++;
    this.#log('information', `Executing '${name}'`, name, invocationId);
    try {
      const worker = await this.#worker;
      using _limit = this.#limitTime(worker, name, invocationId);
      const response = await worker.invoke(request);
      this.#log('information', `Executed '${name}' ${ended('Succeeded')}`, name, invocationId);
      return response;
    } catch (error) {
      const cause = error instanceof InvocationFailed ? error.stack : String(error);
      this.#log('error', `Executed '${name}' ${ended('Failed')}: ${cause}`, name, invocationId);
      throw error;
    } finally {
      this.#running--;
    }
  }

  /** Runs a timer function as its schedule would. */
  async fire(name: string): Promise<void> {
    const timer = this.triggers.timers.get(name);
    if (!timer) throw new Error(`There is no timer function "${name}".`);
    await this.invoke(name, timer.fire(new Date()));
  }

  /** Resolves when nothing runs and no trigger queue holds a message, also none that is invisible. */
  async idle(deadline: AbortSignal): Promise<void> {
    // Twice in a row: a message may pass from a queue that is not looked at yet to one that was.
    let quietPasses = 0;
    while (quietPasses < 2) {
      const busy = await this.#busyWith();
      quietPasses = busy === undefined ? quietPasses + 1 : 0;
      if (deadline.aborted) throw new Error(`The functions host is not idle: ${busy}.`);
      if (busy !== undefined) await delay(50, undefined, { signal: deadline }).catch(() => undefined);
    }
  }

  async #busyWith(): Promise<string | undefined> {
    if (this.#running > 0) return `${this.#running} invocations run`;
    for (const [index, listener] of this.#listeners.entries()) {
      const pending = await listener.pending();
      if (pending > 0) return `${pending} messages in ${this.triggers.queues[index]?.queue.name}`;
    }
    return this.#running > 0 ? `${this.#running} invocations run` : undefined;
  }

  /** Ends as the loss of the machine does: messages in work come back when their leases end. */
  async kill(): Promise<void> {
    this.#lost.abort();
    const worker = await this.#worker.catch(() => undefined);
    await worker?.kill();
  }

  /** Ends as a scale-in does that waits for nothing, after the app's `appTerminate` hooks. */
  async close(): Promise<void> {
    this.#lost.abort();
    const worker = await this.#worker.catch(() => undefined);
    await worker?.terminate(terminateGraceMs);
  }

  #run(): void {
    for (const listener of this.#listeners) void listener.run();
    for (const [name, timer] of this.triggers.timers) {
      if (timer.runOnStartup) void this.#fireQuietly(name);
      if (this.#options.timers) void this.#runTimer(name, timer);
    }
  }

  async #runTimer(name: string, timer: Timer): Promise<void> {
    const { signal } = this.#lost;
    for (;;) {
      const next = timer.next(new Date());
      if (!next) return;
      while (Date.now() < next.getTime()) {
        const wait = Math.min(next.getTime() - Date.now(), longestWaitMs);
        await delay(wait, undefined, { signal, ref: false }).catch(() => undefined);
        if (signal.aborted) return;
      }
      await this.#fireQuietly(name);
    }
  }

  /** What a timer's run throws is in the log; there is no retry. */
  async #fireQuietly(name: string): Promise<void> {
    await this.fire(name).catch(() => undefined);
  }

  /** A function that runs too long takes the worker with it, and its neighbours there. */
  #limitTime(worker: WorkerProcess, name: string, invocationId: string): Disposable {
    const limit = this.#options.host.functionTimeout;
    const timer = setTimeout(() => {
      this.#log('error', `Timeout value of ${limit} ms exceeded by function '${name}'`, name, invocationId);
      void worker.kill();
    }, limit);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  }

  #replaceWhenEnded(worker: WorkerProcess): void {
    void worker.ended.then(() => {
      if (this.#lost.signal.aborted) return;
      this.#log('error', 'The worker process ended and is started again.');
      this.#worker = startWorker(this.#options).then((started) => {
        this.#replaceWhenEnded(started.worker);
        return started.worker;
      });
      this.#worker.catch((error: unknown) =>
        this.#log('error', `The worker did not start: ${String(error)}`),
      );
    });
  }

  #log(level: LogLevel, message: string, functionName?: string, invocationId?: string): void {
    this.#options.log({ level, category: 'host', functionName, invocationId, message });
  }
}

function startWorker({ appRoot, platform, settings, workerSettings, log }: InstanceOptions) {
  return WorkerProcess.start({ appRoot, env: { ...platform, ...settings, ...workerSettings }, onLog: log });
}
