/**
 * A small Azure Functions host for one machine. It loads the built app in a process of its own through the seam of the
 * real worker, and runs its timer, HTTP and queue triggers as the host and the Storage extension do.
 *
 * What it does not do as Azure does:
 * - One instance, one worker process: every function shares it, where Flex Consumption gives each timer and queue its
 *   own instances. Two hosts on the same storage are two instances, but their timers both fire: there is no singleton lock.
 * - Timers that were missed while nothing ran are not made up for; `isPastDue` is never true.
 * - No output bindings but the HTTP answer, no retry policies, no response cookies, no HTTP streaming. An app that
 *   registers one of the first two is refused.
 * - Any failure while the app loads fails the start, also where the real worker would show an app without functions.
 * - Keys are made up at each start. Unlike `func start`, they are asked for, as in Azure.
 * - A worker that ended by itself is started again at once, however often. The dashboard, scaling and the
 *   230 s limit of the load balancer are not there.
 */
import { EventEmitter, on } from 'node:events';
import { HttpFront, Keys } from './host/http-front.ts';
import { Instance } from './host/instance.ts';
import type { FunctionMetadata, HttpRequestData, HttpResponseData, LogLine } from './host/protocol.ts';
import { readHostOptions, type Settings } from './host/settings.ts';

export type { FunctionMetadata, LogLine } from './host/protocol.ts';

export interface FunctionsHostOptions {
  /** The folder with host.json and package.json. */
  readonly appRoot: string;
  /** App settings: the worker's environment, and where bindings look up names and connections. */
  readonly settings: Settings;
  /** Variables of the worker that the bindings do not see: where the app is to go another way than its host. */
  readonly workerSettings?: Settings;
  /** Default: any free port. */
  readonly port?: number;
  /** How long a message that is in work stays invisible after its instance was lost. Default: 600, as in Azure. */
  readonly leaseSeconds?: number;
  /** Whether timers run by the clock too; `invokeTimer` works either way. Default: true. */
  readonly timers?: boolean;
  readonly onLog?: (line: LogLine) => void;
}

/** Starts a host and resolves when the app is loaded and its triggers run. */
export async function startFunctionsHost(options: FunctionsHostOptions): Promise<FunctionsHost> {
  const host = new FunctionsHost(options);
  await host.start();
  return host;
}

export class FunctionsHost implements AsyncDisposable {
  /** Everything logged so far, over restarts. */
  readonly logs: LogLine[] = [];
  readonly #options: FunctionsHostOptions;
  readonly #keys = new Keys();
  readonly #front: HttpFront;
  readonly #events = new EventEmitter();
  #url = '';
  #instance: Instance | undefined;

  constructor(options: FunctionsHostOptions) {
    this.#options = options;
    this.#front = new HttpFront(this.#keys, {
      httpFunctions: () => this.#instance?.triggers.http,
      invokeHttp: (name, request) => this.#invokeHttp(name, request),
      invokeByHand: (name) => this.#invokeByHand(name),
    });
  }

  async start(): Promise<void> {
    this.#url = await this.#front.listen(this.#options.port ?? 0);
    try {
      await this.restart();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  /** The address without a path: `http://127.0.0.1:PORT`. */
  get url(): string {
    return this.#url;
  }

  /** What the app registered, as it registered it: expressions in bindings are not resolved. */
  get functions(): readonly FunctionMetadata[] {
    return this.#running().functions;
  }

  get masterKey(): string {
    return this.#keys.master;
  }

  /** A function's own key, or the host key that opens every function. */
  key(functionName?: string): string {
    return this.#keys.get(functionName);
  }

  /** The process that runs the app now. */
  workerPid(): Promise<number | undefined> {
    return this.#running().pid();
  }

  /** Runs a timer function now; rejects where it throws. */
  async invokeTimer(name: string): Promise<void> {
    await this.#running().fire(name);
  }

  /** Resolves when no trigger queue holds a message, visible or not, and nothing runs. */
  async idle(timeoutMs = 60_000): Promise<void> {
    await this.#running().idle(AbortSignal.timeout(timeoutMs));
  }

  /** The first line that fits, of those logged already or to come. */
  async logged(fits: (line: LogLine) => boolean, timeoutMs = 30_000): Promise<LogLine> {
    const lines = on(this.#events, 'log', { signal: AbortSignal.timeout(timeoutMs) });
    const found = this.logs.find(fits);
    if (found) return found;
    for await (const [line] of lines) if (fits(line)) return line;
    throw new Error('The log ended.');
  }

  /**
   * Ends the instance as the loss of its machine does (SIGKILL, nothing settled), until `restart`: HTTP answers 503,
   * messages in work come back when their leases end. To end only the worker, send a signal to `workerPid`.
   */
  async kill(): Promise<void> {
    const instance = this.#instance;
    this.#instance = undefined;
    await instance?.kill();
  }

  /** A new instance in place of the old one, with the artefact as it is now. */
  async restart(): Promise<void> {
    await this.kill();
    const { appRoot, settings } = this.#options;
    this.#instance = await Instance.start({
      appRoot,
      settings,
      platform: platformVariables(this.#url),
      workerSettings: this.#options.workerSettings ?? {},
      host: readHostOptions(appRoot, settings),
      leaseSeconds: this.#options.leaseSeconds ?? 600,
      timers: this.#options.timers ?? true,
      log: (line) => this.#log(line),
    });
  }

  async close(): Promise<void> {
    const instance = this.#instance;
    this.#instance = undefined;
    await Promise.all([this.#front.close(), instance?.close()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #running(): Instance {
    if (!this.#instance) throw new Error('No instance runs: it was killed or closed.');
    return this.#instance;
  }

  async #invokeHttp(name: string, request: HttpRequestData): Promise<HttpResponseData | undefined> {
    const { returnValue } = await this.#running().invoke(name, { http: request });
    return returnValue?.http;
  }

  #invokeByHand(name: string): boolean {
    const instance = this.#running();
    if (!instance.triggers.timers.has(name)) return false;
    // The caller is answered before the function is done; what it throws is in the log.
    instance.fire(name).catch(() => undefined);
    return true;
  }

  #log(line: LogLine): void {
    this.logs.push(line);
    this.#options.onLog?.(line);
    this.#events.emit('log', line);
  }
}

/** What Core Tools sets for a worker beside the app's settings. */
function platformVariables(url: string): Settings {
  return {
    FUNCTIONS_WORKER_RUNTIME: 'node',
    AZURE_FUNCTIONS_ENVIRONMENT: 'Development',
    WEBSITE_HOSTNAME: new URL(url).host,
  };
}
