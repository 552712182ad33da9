import { describe, expect, test } from 'vitest';
import { parseArguments } from '../../../lib/cli/arguments.ts';
import { helpText } from '../../../lib/cli/help.ts';
import { commandNames, type OptionSpec, optionSpecs } from '../../../lib/cli/options.ts';

const specs: readonly OptionSpec[] = optionSpecs;

test('the general help names every command', () => {
  for (const name of commandNames) expect(helpText()).toContain(`hubferry ${name}`);
});

describe.each(commandNames)('the help of %s', (name) => {
  test('names the options of the command, and no others', () => {
    // That of `help` is the general one.
    const topic = name === 'help' ? undefined : name;
    const told = new Set(
      [...helpText(topic).matchAll(/^ +(?:-\w, )?--([a-z-]+)/gm)].map(([, option]) => option),
    );
    expect(told).toEqual(
      new Set(specs.filter(({ commands }) => commands.includes(name)).map((spec) => spec.name)),
    );
  });
  test('fits on a screen of 120 columns', () => {
    for (const line of helpText(name).split('\n')) expect(line.length).toBeLessThanOrEqual(120);
  });
});

test('the defaults that the help tells are those that are parsed', () => {
  const told = new Map(specs.map(({ name, byDefault }) => [name, byDefault]));
  expect(parseArguments(['sync', '--output-success-images', 'f'])).toMatchObject({
    engine: { proc: Number(told.get('proc')), retries: Number(told.get('retries')) },
    compare: { wait: Number(told.get('wait')) },
    output: { logLevel: told.get('log-level'), logFormat: told.get('log-format') },
    success: { format: told.get('output-images-format') },
  });
});
