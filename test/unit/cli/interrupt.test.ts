import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect, onTestFinished, test, vi } from 'vitest';
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

test('the second one ends at once with 130, unless it is the same key press told twice', () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const { source, ends } = listen();
  source.emit('SIGINT', 'SIGINT');
  source.emit('SIGINT', 'SIGINT');
  vi.advanceTimersByTime(100);
  source.emit('SIGINT', 'SIGINT');
  expect(ends).toEqual([]);
  vi.advanceTimersByTime(1000);
  source.emit('SIGTERM', 'SIGTERM');
  expect(ends).toEqual([130]);
});

test('once stopped, signals have their usual effect again', () => {
  const { source, interrupt } = listen();
  interrupt.stop();
  expect(source.eventNames()).toEqual([]);
});

test.runIf(process.platform !== 'win32')(
  'a process that hangs while it saves ends by the second Ctrl-C',
  async () => {
    const program = `
    import { listenForInterrupt } from ${JSON.stringify(import.meta.resolve('../../../lib/cli/interrupt.ts'))};
    const { signal } = listenForInterrupt(process, (exitCode) => process.exit(exitCode));
    signal.addEventListener('abort', () => console.log('saving'));
    setInterval(() => signal.aborted && console.log('hangs'), 700);
    console.log('running');`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    const told: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) {
      told.push(line);
      child.kill('SIGINT');
    }
    expect(told).toEqual(['running', 'saving', 'hangs']);
    expect(await ended).toEqual([130, null]);
  },
);
