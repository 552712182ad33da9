/** Memory while very many tags are listed. */
import { setFlagsFromString } from 'node:v8';
import type { OnEvent } from './sync/runs/events.ts';

/** Below this V8's own ways are quicker, and need no more than is there anyway. */
const manyTags = 20_000;
/**
 * V8 grows the young generation to 128 MiB and the old one to several times what is in use, for it takes memory to be free.
 * Here the young one stays as it is, and the old one is collected when it has grown by half.
 */
const thrift = ['--semi-space-growth-factor=1', '--heap-growing-percent=50'];

let isThrifty = false;

/** Watches listings, and keeps the heap of this process small from so many tags on. */
export function keepHeapSmall(onEvent: OnEvent): OnEvent {
  return (event) => {
    if (event.type === 'listing' && event.tags >= manyTags && !isThrifty) {
      isThrifty = true;
      for (const flag of thrift) setFlagsFromString(flag);
    }
    onEvent(event);
  };
}
