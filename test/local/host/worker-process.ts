/** The host's end of a worker process. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type {
  Failure,
  FromWorker,
  FunctionMetadata,
  InvocationRequest,
  InvocationResponse,
  LogLevel,
  LogLine,
  ToWorker,
} from './protocol.ts';

export interface WorkerOptions {
  readonly appRoot: string;
  readonly env: Readonly<Record<string, string>>;
  readonly onLog: (line: LogLine) => void;
}

const workerFile = fileURLToPath(new URL('./worker.ts', import.meta.url));
const withParent = fileURLToPath(new URL('../with-parent.ts', import.meta.url));

/** The machine's own variables that a worker sees beside the app's settings; the caller's environment stays outside. */
const inherited = ['PATH', 'HOME', 'TMPDIR', 'LANG'];

/** An app loaded in a process of its own. */
export class WorkerProcess {
  /** Resolves when the process has ended, for whatever reason, and all that it said was heard. */
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  readonly #onLog: (line: LogLine) => void;
  readonly #loaded = Promise.withResolvers<readonly FunctionMetadata[]>();
  readonly #pending = new Map<string, PromiseWithResolvers<InvocationResponse>>();

  private constructor(options: WorkerOptions) {
    this.#onLog = options.onLog;
    this.#child = fork(workerFile, [options.appRoot], {
      cwd: options.appRoot,
      env: { ...inheritedVariables(), ...options.env },
      execArgv: ['--import', withParent],
      // Outside the terminal's process group: Ctrl-C is the host's to handle.
      detached: true,
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#child.on('message', (message: FromWorker) => this.#receive(message));
    forwardLines(this.#child.stdout, 'information', options.onLog);
    forwardLines(this.#child.stderr, 'error', options.onLog);
    this.ended = Promise.all([once(this.#child, 'close'), once(this.#child, 'disconnect')]).then(() =>
      this.#failPending(),
    );
  }

  /** Starts the process and loads the app; rejects with the app's own error where it does not load. */
  static async start(
    options: WorkerOptions,
  ): Promise<{ worker: WorkerProcess; functions: readonly FunctionMetadata[] }> {
    const worker = new WorkerProcess(options);
    return { worker, functions: await worker.#loaded.promise };
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Rejects with an `InvocationFailed`, or a `WorkerEnded` where the process ended meanwhile. */
  invoke(request: InvocationRequest): Promise<InvocationResponse> {
    const outcome = Promise.withResolvers<InvocationResponse>();
    this.#pending.set(request.invocationId, outcome);
    this.#send({ type: 'invoke', request });
    return outcome.promise;
  }

  /** Ends it as the loss of its machine would. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  /** Lets the app's `appTerminate` hooks run, for at most `graceMs`. */
  async terminate(graceMs: number): Promise<void> {
    this.#send({ type: 'terminate' });
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), graceMs);
    await this.ended;
    clearTimeout(timer);
  }

  #send(message: ToWorker): void {
    // A process that is gone answers nothing more: `ended` fails what is pending.
    if (this.#child.connected) this.#child.send(message, () => undefined);
    else void this.ended.then(() => this.#failPending());
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case 'ready':
        this.#loaded.resolve(message.functions);
        break;
      case 'loadFailed':
        this.#loaded.reject(new InvocationFailed(message.failure));
        break;
      case 'log':
        this.#onLog(message.line);
        break;
      case 'succeeded':
        this.#take(message.response.invocationId)?.resolve(message.response);
        break;
      case 'failed':
        this.#take(message.invocationId)?.reject(new InvocationFailed(message.failure));
        break;
    }
  }

  #take(invocationId: string): PromiseWithResolvers<InvocationResponse> | undefined {
    const outcome = this.#pending.get(invocationId);
    this.#pending.delete(invocationId);
    return outcome;
  }

  #failPending(): void {
    const error = new WorkerEnded(this.#child.signalCode ?? `code ${this.#child.exitCode}`);
    this.#loaded.reject(error);
    for (const id of [...this.#pending.keys()]) this.#take(id)?.reject(error);
  }
}

/** The app's function threw. */
export class InvocationFailed extends Error {
  constructor(failure: Failure) {
    super(failure.message);
    this.name = failure.name;
    this.stack = failure.stack;
  }
}

/** The worker process ended while something was running in it. */
export class WorkerEnded extends Error {
  constructor(reason: string) {
    super(`The worker process ended (${reason}).`);
    this.name = 'WorkerEnded';
  }
}

function inheritedVariables(): Record<string, string> {
  return Object.fromEntries(
    inherited.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

function forwardLines(
  stream: NodeJS.ReadableStream | null,
  level: LogLevel,
  onLog: (line: LogLine) => void,
): void {
  if (!stream) return;
  createInterface({ input: stream }).on('line', (message) => onLog({ level, category: 'console', message }));
}
