#!/usr/bin/env node
/** The program `hubferry`: ties the command line to its process. */
import packageJson from '../../package.json' with { type: 'json' };
import { listenForInterrupt } from './interrupt.ts';

// A reader that went away (`hubferry plan | head`) is no reason to end a run; what could not be written is lost, and said.
process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') return;
  process.stderr.write(`hubferry: the output was not written: ${message}\n`);
  process.once('exit', () => {
    process.exitCode ||= 1;
  });
});
process.stderr.on('error', () => undefined);

const argv = process.argv.slice(2);
let answerAtOnce: typeof import('./commands.ts').answerAtOnce | undefined;
// Before all that takes time to load: an interrupt ends it with 130 from the first moment on.
const interrupt = listenForInterrupt(process, (exitCode) => {
  answerAtOnce?.(argv, interrupt.signal.reason, process);
  process.exit(exitCode);
});
const [{ createEngine }, commands] = await Promise.all([import('../app.ts'), import('./commands.ts')]);
answerAtOnce = commands.answerAtOnce;
process.exitCode = await commands.runCommandLine(
  argv,
  {
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    signal: interrupt.signal,
    version: packageJson.version,
  },
  createEngine,
);
answerAtOnce = undefined;
// Once interrupted it ends with 130, also by a second signal.
if (!interrupt.signal.aborted) interrupt.stop();
// An answer that nobody waits for any more, such as that of a silent identity, must not keep the process.
await Promise.all([process.stdout, process.stderr].map(written));
process.exit();

function written(stream: NodeJS.WriteStream): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  stream.write('', () => resolve());
  return promise;
}
