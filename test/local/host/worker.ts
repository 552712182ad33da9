/**
 * The worker process: loads an app through the seam of the real worker (`require('@azure/functions-core')`), tells the
 * host what it registered, and runs one invocation for each request.
 *
 * argv: the app's folder.
 */
import { globSync, readFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
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

type Callback = (...values: unknown[]) => unknown;
type HookName = 'appStart' | 'appTerminate' | 'preInvocation' | 'postInvocation' | 'log';
type Hook = (context: object) => unknown;

interface InvocationModel {
  getArguments(): Promise<{ context: unknown; inputs: unknown[] }>;
  invokeFunction(context: unknown, inputs: unknown[], callback: Callback): Promise<unknown>;
  getResponse(context: unknown, result: unknown): Promise<InvocationResponse>;
}

interface ProgrammingModel {
  getInvocationModel(coreContext: CoreInvocationContext): InvocationModel | Promise<InvocationModel>;
  getCapabilities?(capabilities: Record<string, string>): unknown;
}

/** What the library is told of an invocation. */
class CoreInvocationContext {
  readonly invocationId: string;
  readonly metadata: FunctionMetadata;
  readonly request: InvocationRequest;
  state: 'preInvocationHooks' | 'invocation' | 'postInvocationHooks' | undefined;
  invocationContext: unknown;

  constructor(metadata: FunctionMetadata, request: InvocationRequest) {
    this.invocationId = request.invocationId;
    this.metadata = metadata;
    this.request = request;
  }

  log(level: LogLevel, category: 'user' | 'system', message: string): void {
    const { invocationId, metadata } = this;
    writeLog({ level, category, functionName: metadata.name, invocationId, message }, this.invocationContext);
  }
}

const registered = new Map<string, { metadata: FunctionMetadata; callback: Callback }>();
const hooks: Record<HookName, Hook[]> = {
  appStart: [],
  appTerminate: [],
  preInvocation: [],
  postInvocation: [],
  log: [],
};
const appHookData = {};
let programmingModel: ProgrammingModel | undefined;
let started = false;

class Disposable {
  readonly #dispose: () => void;
  constructor(dispose: () => void) {
    this.#dispose = dispose;
  }
  dispose(): void {
    this.#dispose();
  }
}

/** What `require('@azure/functions-core')` answers. */
const core = {
  version: '3.14.1',
  hostVersion: '4.1049.0',
  Disposable,
  registerFunction(metadata: FunctionMetadata, callback: Callback): Disposable {
    if (started) throw new Error('A function can only be registered during app startup.');
    if (registered.has(metadata.name))
      throw new Error(`A function "${metadata.name}" is already registered.`);
    registered.set(metadata.name, { metadata, callback });
    return new Disposable(() => registered.delete(metadata.name));
  },
  registerHook(name: HookName, hook: Hook): Disposable {
    const list = hooks[name];
    if (!list) throw new RangeError(`Unrecognized hook "${name}"`);
    list.push(hook);
    return new Disposable(() => list.splice(list.indexOf(hook), 1));
  },
  setProgrammingModel(model: ProgrammingModel): void {
    programmingModel = model;
  },
  getProgrammingModel: () => programmingModel,
  log(level: LogLevel, category: 'user' | 'system', message: string): void {
    writeLog({ level, category, message }, undefined);
  },
};

function send(message: FromWorker): void {
  process.send?.(message);
}

/** Log hooks may change level and message of the app's own lines. */
function writeLog(line: LogLine, invocationContext: unknown): void {
  const { level, message, category } = line;
  const context = { ...newHookData(), level, message, category, invocationContext };
  for (const hook of hooks.log) hook(context);
  const changed = category === 'user' ? { level: context.level, message: context.message } : {};
  send({ type: 'log', line: { ...line, ...changed } });
}

/** What hooks of one scope share with each other, and with all. */
function newHookData(): object {
  return { hookData: {}, appHookData };
}

async function runHooks(name: HookName, context: object): Promise<void> {
  for (const hook of hooks[name]) await hook(context);
}

async function loadApp(appRoot: string): Promise<void> {
  interceptRequire();
  const packageJson: unknown = JSON.parse(readFileSync(path.join(appRoot, 'package.json'), 'utf8'));
  const { main, type } = packageJson as { main?: string; type?: string };
  const files = main ? globSync(main, { cwd: appRoot }) : [];
  if (files.length === 0) throw new Error(`No file matches the entry point "${main}" of package.json.`);
  for (const file of files) await loadScript(path.join(appRoot, file), type);
  if (registered.size === 0) throw new Error('The entry point registered no function.');
  await programmingModel?.getCapabilities?.({});
  await runHooks('appStart', { ...newHookData(), functionAppDirectory: appRoot });
  started = true;
}

/** The library asks for its other half by `require` only; the worker answers before Node looks for a file. */
function interceptRequire(): void {
  Module.prototype.require = new Proxy(Module.prototype.require, {
    apply: (target, self, values) =>
      values[0] === '@azure/functions-core' ? core : Reflect.apply(target, self, values),
  });
}

async function loadScript(file: string, packageType: string | undefined): Promise<void> {
  const extension = path.extname(file);
  const isModule = extension === '.mjs' || (extension !== '.cjs' && packageType === 'module');
  if (isModule) await import(pathToFileURL(file).href);
  else createRequire(file)(file);
}

async function invoke(request: InvocationRequest): Promise<void> {
  try {
    send({ type: 'succeeded', response: await respond(request) });
  } catch (error) {
    send({ type: 'failed', invocationId: request.invocationId, failure: failureOf(error) });
  }
}

async function respond(request: InvocationRequest): Promise<InvocationResponse> {
  const entry = registered.get(request.functionId);
  if (!entry || !programmingModel) throw new Error(`Function "${request.functionId}" is not loaded.`);
  const coreContext = new CoreInvocationContext(entry.metadata, request);
  const model = await programmingModel.getInvocationModel(coreContext);
  const { context: invocationContext, inputs } = await model.getArguments();
  coreContext.invocationContext = invocationContext;
  const shared = { ...newHookData(), invocationContext };

  const before = { ...shared, inputs, functionCallback: entry.callback };
  coreContext.state = 'preInvocationHooks';
  await runHooks('preInvocation', before);

  const outcome: { result: unknown; error: unknown } = { result: null, error: null };
  const after = { ...shared, ...outcome, inputs: before.inputs };
  coreContext.state = 'invocation';
  try {
    after.result = await model.invokeFunction(invocationContext, before.inputs, before.functionCallback);
  } catch (error) {
    after.error = error;
  }
  coreContext.state = 'postInvocationHooks';
  await runHooks('postInvocation', after);
  coreContext.state = undefined;
  if (after.error !== null) throw after.error;
  return await model.getResponse(invocationContext, after.result);
}

function failureOf(error: unknown): Failure {
  if (error instanceof Error) return { name: error.name, message: error.message, stack: error.stack ?? '' };
  return { name: 'Error', message: String(error), stack: '' };
}

async function terminate(): Promise<void> {
  await runHooks('appTerminate', newHookData());
  process.exit(0);
}

process.on('message', (message: ToWorker) => {
  if (message.type === 'invoke') void invoke(message.request);
  else void terminate();
});

const [, , appRoot] = process.argv;
if (!appRoot) throw new Error('Usage: worker.ts APP_FOLDER');
try {
  await loadApp(path.resolve(appRoot));
  const functions = [...registered.values()].map(({ metadata }) => metadata);
  send({ type: 'ready', functions });
} catch (error) {
  const message: FromWorker = { type: 'loadFailed', failure: failureOf(error) };
  process.send?.(message, () => process.exit(1));
}
