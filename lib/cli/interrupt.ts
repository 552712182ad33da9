import { HubferryError } from '../errors.ts';

export const interruptedExitCode = 130;

type StopSignal = 'SIGINT' | 'SIGTERM';

/** The part of `process` that is needed here. */
export interface SignalSource {
  on(signal: StopSignal, listener: (signal: StopSignal) => void): unknown;
  off(signal: StopSignal, listener: (signal: StopSignal) => void): unknown;
}

export interface Interrupt {
  /** Aborted with ERR_INTERRUPTED by the first Ctrl-C or SIGTERM. */
  readonly signal: AbortSignal;
  /** Leaves the signals alone again. */
  stop(): void;
}

/** A terminal tells the whole group of Ctrl-C, and whoever started this program (npm) tells it once more, within milliseconds. */
const sameKeyMs = 500;

/** The first Ctrl-C or SIGTERM asks the run to save and end; `endAtOnce` is called by the next one that a person can have meant. */
export function listenForInterrupt(source: SignalSource, endAtOnce: (exitCode: number) => void): Interrupt {
  const controller = new AbortController();
  let interruptedAt = 0;
  const listener = (signal: StopSignal): void => {
    if (!controller.signal.aborted) {
      interruptedAt = performance.now();
      controller.abort(new HubferryError('ERR_INTERRUPTED', `Interrupted by ${signal}.`));
    } else if (performance.now() - interruptedAt >= sameKeyMs) endAtOnce(interruptedExitCode);
  };
  source.on('SIGINT', listener);
  source.on('SIGTERM', listener);
  return {
    signal: controller.signal,
    stop: () => {
      source.off('SIGINT', listener);
      source.off('SIGTERM', listener);
    },
  };
}
