/** Shares one piece of work between all who want it at the same time; it is given up when the last of them leaves. */
export class SharedFlights<Value> {
  readonly #flights = new Map<string, Flight<Value>>();

  /** The result of the flight under way for this key, or of a new one. Rejects with the signal's reason for this caller alone. */
  async join(
    key: string,
    signal: AbortSignal | undefined,
    start: (signal: AbortSignal) => Promise<Value>,
  ): Promise<Value> {
    signal?.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, start);
    flight.passengers++;
    try {
      return await (signal === undefined ? flight.result : abortable(flight.result, signal));
    } finally {
      if (--flight.passengers === 0) flight.controller.abort(new Error('Nobody waits for it any more'));
    }
  }

  #start(key: string, start: (signal: AbortSignal) => Promise<Value>): Flight<Value> {
    const controller = new AbortController();
    const result = start(controller.signal);
    const flight = { result, controller, passengers: 0 };
    this.#flights.set(key, flight);
    const forget = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    controller.signal.addEventListener('abort', forget);
    result.then(forget, forget);
    return flight;
  }
}

interface Flight<Value> {
  readonly result: Promise<Value>;
  readonly controller: AbortController;
  passengers: number;
}

function abortable<Value>(work: Promise<Value>, signal: AbortSignal): Promise<Value> {
  const { promise, resolve, reject } = Promise.withResolvers<Value>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  return promise;
}
