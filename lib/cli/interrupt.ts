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

/** The first Ctrl-C or SIGTERM asks the run to save and end; `endAtOnce` is called by the second. */
export function listenForInterrupt(source: SignalSource, endAtOnce: (exitCode: number) => void): Interrupt {
  const controller = new AbortController();
  const listener = (signal: StopSignal): void => {
    if (controller.signal.aborted) endAtOnce(interruptedExitCode);
    else controller.abort(new HubferryError('ERR_INTERRUPTED', `Interrupted by ${signal}.`));
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
