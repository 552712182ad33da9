/** Preloaded (`NODE_OPTIONS`) by a worker whose clock goes wrong by CLOCK_SKEW_MS, or whose time has passed faster than ours. */
const skewMs = Number(process.env.CLOCK_SKEW_MS ?? 0);
const trueNow = Date.now;
const now = () => trueNow() + skewMs;

globalThis.Date = new Proxy(Date, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
  get: (target, key, receiver) => (key === 'now' ? now : Reflect.get(target, key, receiver)),
});
