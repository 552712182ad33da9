import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { listenForInterrupt } from '../../../lib/cli/interrupt.ts';

function listen() {
  const source = new EventEmitter();
  const ends: number[] = [];
  const interrupt = listenForInterrupt(source, (exitCode) => ends.push(exitCode));
  return { source, ends, interrupt };
}

test.each(['SIGINT', 'SIGTERM'])('the first %s aborts with ERR_INTERRUPTED and ends nothing', (signal) => {
  const { source, ends, interrupt } = listen();
  expect(interrupt.signal.aborted).toBe(false);
  source.emit(signal, signal);
  expect(interrupt.signal.reason).toMatchObject({
    code: 'ERR_INTERRUPTED',
    message: `Interrupted by ${signal}.`,
  });
  expect(ends).toEqual([]);
});

test('the second one ends at once with 130', () => {
  const { source, ends } = listen();
  source.emit('SIGINT', 'SIGINT');
  source.emit('SIGTERM', 'SIGTERM');
  expect(ends).toEqual([130]);
});

test('once stopped, signals have their usual effect again', () => {
  const { source, interrupt } = listen();
  interrupt.stop();
  expect(source.eventNames()).toEqual([]);
});
