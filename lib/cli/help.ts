import {
  type CommandName,
  commandNames,
  commandSpecs,
  everyCommand,
  type OptionSpec,
  optionSpecs,
} from './options.ts';

/** The help of a command, or of all. */
export function helpText(topic?: CommandName): string {
  return topic === undefined || topic === 'help' ? generalHelp() : commandHelp(topic);
}

function generalHelp(): string {
  return [
    'hubferry keeps an Azure Container Registry in step with Docker Hub.',
    '',
    ...commandNames.map((name) => `  ${synopsis(name).padEnd(46)}  ${commandSpecs[name].summary}`),
    '',
    'SOURCE  repo, repo:tag, repo:t1,t2, repo:GLOB, repo:/regex/ or repo@sha256:…',
    'TARGET  repo, repo:tag, repo:t1,t2 or the same repo:GLOB',
    '',
    'Options of every command:',
    ...optionLines((spec) => spec.commands === everyCommand),
    '',
    'AZURE_STORAGE_CONNECTION_STRING, where it is set, says where the state is unless --state does.',
    'Exit: 0 done; 1 something failed or waits; 2 the command line, a file or a variable is wrong; 130 interrupted.',
    'hubferry help COMMAND tells the options of a command.',
    '',
  ].join('\n');
}

function commandHelp(name: CommandName): string {
  return [
    synopsis(name),
    '',
    `  ${commandSpecs[name].summary}`,
    '',
    'Options:',
    ...optionLines((spec) => spec.commands.includes(name)),
    '',
  ].join('\n');
}

function synopsis(name: CommandName): string {
  const takesOptions = commandSpecs[name].most === 2 ? '[options]' : '';
  return ['hubferry', name, commandSpecs[name].operands, takesOptions].filter(Boolean).join(' ');
}

function optionLines(selects: (spec: OptionSpec) => boolean): string[] {
  const specs = (optionSpecs as readonly OptionSpec[]).filter(selects);
  const names = specs.map(({ name, short, value }) => {
    const dashed = short === undefined ? `    --${name}` : `-${short}, --${name}`;
    return value === undefined ? dashed : `${dashed} ${value}`;
  });
  const width = Math.max(...names.map((name) => name.length));
  return specs.map(({ help, byDefault, repeatable }, index) => {
    const notes = [repeatable && 'repeatable', byDefault && `default: ${byDefault}`].filter(Boolean);
    const note = notes.length === 0 ? '' : ` (${notes.join('; ')})`;
    return `  ${(names[index] ?? '').padEnd(width)}  ${help}${note}`;
  });
}
