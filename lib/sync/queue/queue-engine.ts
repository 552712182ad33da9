/** The engine of the function app: what comes in by timers, pushes and queues. That of the command line is `direct.ts`. */
import { Dispatcher, type DispatcherOptions } from './dispatcher.ts';
import { Releaser, type ReleaserOptions } from './releaser.ts';
import { Settlement, type SettlementOptions } from './settlement.ts';
import { Worker, type WorkerOptions } from './worker.ts';

export interface QueueEngineOptions
  extends DispatcherOptions,
    SettlementOptions,
    WorkerOptions,
    ReleaserOptions {}

export interface QueueEngine {
  readonly dispatcher: Dispatcher;
  readonly worker: Worker;
  readonly releaser: Releaser;
}

export function createQueueEngine(options: QueueEngineOptions): QueueEngine {
  const settlement = new Settlement(options);
  return {
    dispatcher: new Dispatcher(options),
    worker: new Worker(options, settlement),
    releaser: new Releaser(options, settlement),
  };
}
