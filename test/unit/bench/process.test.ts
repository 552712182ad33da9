import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { run } from '../../bench/process.ts';

const cwd = tmpdir();

describe.runIf(process.platform === 'linux')('the cost of a program', () => {
  it('holds the CPU time of its children, and no time in which it only waits', async () => {
    const burn = 'while (process.cpuUsage().user < 400_000);';
    const burning = await run(['bash', '-c', '"$0" -e "$1"', process.execPath, burn], { cwd });
    expect(burning.cpuSeconds).toBeGreaterThanOrEqual(0.4);
    const { wallSeconds, cpuSeconds } = await run(['sleep', '0.5'], { cwd });
    expect(wallSeconds).toBeGreaterThanOrEqual(0.5);
    expect(cpuSeconds).toBeLessThan(0.2);
  });

  it('holds the peak of its memory, also where it was given back', async () => {
    const brief = 'let held = Buffer.alloc(1e8, 1); held = undefined; gc(); setTimeout(() => {}, 100)';
    const { peakBytes } = await run([process.execPath, '--expose-gc', '-e', brief], { cwd });
    expect(peakBytes).toBeGreaterThan(1e8);
    expect(peakBytes).toBeLessThan(3e8);
  });

  it('comes with what it printed, and with its error where it fails', async () => {
    expect((await run(['echo', 'told'], { cwd })).stdout).toBe('told\n');
    await expect(run(['bash', '-c', 'echo why >&2; exit 3'], { cwd })).rejects.toThrow(/ended with 3\nwhy/);
  });

  it('ends when it is killed on purpose', async () => {
    const kill = new AbortController();
    const ended = run(['sleep', '60'], { cwd, kill: kill.signal });
    kill.abort();
    expect((await ended).exitCode).toBe(137);
  });
});
