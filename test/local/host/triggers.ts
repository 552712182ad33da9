/** What an app registered, turned into the triggers that the host runs; what it cannot run is refused by name. */
import type { QueueClient } from '@azure/storage-queue';
import { type HttpFunction, httpFunctionOf } from './http-front.ts';
import { Schedule } from './ncrontab.ts';
import type { BindingInfo, FunctionMetadata, TypedData } from './protocol.ts';
import { type HostOptions, queueServiceOf, resolveBinding, type Settings } from './settings.ts';

export interface QueueFunction {
  readonly name: string;
  readonly queue: QueueClient;
  readonly poison: QueueClient | undefined;
}

export interface Triggers {
  /** The name of the trigger's binding, by function. */
  readonly inputNames: ReadonlyMap<string, string>;
  readonly http: readonly HttpFunction[];
  readonly queues: readonly QueueFunction[];
  readonly timers: ReadonlyMap<string, Timer>;
}

const supported = ['timerTrigger', 'httpTrigger', 'queueTrigger'];

export function triggersOf(
  functions: readonly FunctionMetadata[],
  options: HostOptions,
  settings: Settings,
): Triggers {
  const inputNames = new Map<string, string>();
  const http: HttpFunction[] = [];
  const queues: QueueFunction[] = [];
  const timers = new Map<string, Timer>();
  for (const metadata of functions) {
    const { name } = metadata;
    const [inputName, raw] = triggerOf(metadata);
    const trigger = resolveBinding(raw, settings);
    if (isDisabled(name, settings)) continue;
    inputNames.set(name, inputName);
    if (trigger.type === 'httpTrigger') {
      http.push(httpFunctionOf(metadata, trigger, options.extensions.http.routePrefix));
    } else if (trigger.type === 'timerTrigger') timers.set(name, new Timer(trigger));
    else queues.push(queueFunctionOf(name, trigger, options, settings));
  }
  return { inputNames, http, queues, timers };
}

/** As the portal's switch sets it: nothing triggers the function, and over HTTP it is not found. */
function isDisabled(name: string, settings: Settings): boolean {
  return /^(?:true|1)$/i.test(settings[`AzureWebJobs.${name}.Disabled`] ?? '');
}

function triggerOf({ name, bindings, retryOptions }: FunctionMetadata): [string, BindingInfo] {
  if (retryOptions) throw new Error(`Function "${name}": retry policies are not supported here.`);
  for (const binding of Object.values(bindings)) {
    const known = supported.includes(binding.type) || binding.type === 'http';
    if (!known) throw new Error(`Function "${name}": the binding ${binding.type} is not supported here.`);
  }
  const trigger = Object.entries(bindings).find(([, binding]) => supported.includes(binding.type));
  if (!trigger) throw new Error(`Function "${name}" has no trigger.`);
  return trigger;
}

function queueFunctionOf(
  name: string,
  { connection, queueName }: BindingInfo,
  { extensionBundle }: HostOptions,
  settings: Settings,
): QueueFunction {
  if (!extensionBundle)
    throw new Error(`Function "${name}": queue triggers need extensionBundle in host.json.`);
  const service = queueServiceOf(String(connection ?? 'AzureWebJobsStorage'), settings);
  const target = String(queueName);
  const poison = target.endsWith('-poison') ? undefined : service.getQueueClient(`${target}-poison`);
  return { name, queue: service.getQueueClient(target), poison };
}

/** A timer trigger and when it last ran. */
export class Timer {
  readonly #schedule: Schedule;
  readonly #useMonitor: boolean;
  readonly runOnStartup: boolean;
  #last: Date | undefined;

  constructor(binding: BindingInfo) {
    this.#schedule = new Schedule(String(binding.schedule));
    this.#useMonitor = binding.useMonitor !== false;
    this.runOnStartup = binding.runOnStartup === true;
  }

  next(after: Date): Date | undefined {
    return this.#schedule.next(after);
  }

  /** The input of a run that starts now; the next one will name it as the last. */
  fire(now: Date): TypedData {
    const status = this.#isMonitored(now)
      ? {
          Last: timeOf(this.#last),
          Next: timeOf(this.next(now)),
          LastUpdated: timeOf(this.#last),
        }
      : null;
    this.#last = now;
    return {
      json: JSON.stringify({
        Schedule: { AdjustForDST: true },
        ScheduleStatus: status,
        IsPastDue: false,
      }),
    };
  }

  /** The host keeps no status for what runs more often than once a minute. */
  #isMonitored(now: Date): boolean {
    const first = this.next(now);
    const second = first && this.next(first);
    const interval = first && second ? second.getTime() - first.getTime() : Number.POSITIVE_INFINITY;
    return this.#useMonitor && interval >= 60_000;
  }
}

/** A time that never was is .NET's `DateTime.MinValue`. */
function timeOf(date: Date | undefined): string {
  return date?.toISOString() ?? '0001-01-01T00:00:00+00:00';
}
