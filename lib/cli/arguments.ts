/** Reads the command line. Everything wrong in it is found here, before any file is opened. */
import { parseArgs } from 'node:util';
import { platformsFromFlags } from '../config/arguments.ts';
import { nearest } from '../config/nearest.ts';
import { parseDuration } from '../config/quantity.ts';
import { ConfigError } from '../errors.ts';
import { type LogFormat, logFormats, logLevels } from '../log.ts';
import type { PlatformPattern } from '../oci/platform.ts';
import type { LogLevel } from '../sync/runs/events.ts';
import type { CompareOptions, EngineOptions } from './engine.ts';
import {
  type CommandName,
  commandNames,
  commandSpecs,
  type OptionName,
  type OptionSpec,
  optionSpecs,
} from './options.ts';

export interface OutputOptions {
  readonly json: boolean;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly log?: string | undefined;
}

/** Where the rules come from: a file, two files of image-syncer, or SOURCE and TARGET. */
export interface RulesOptions {
  readonly config?: string | undefined;
  readonly images?: string | undefined;
  readonly auth?: string | undefined;
  readonly pair?: Pair | undefined;
  /** For rules that have none themselves. */
  readonly platforms: readonly PlatformPattern[];
}

export interface Pair {
  readonly source: string;
  readonly target: string;
  /** `user:password`. */
  readonly sourceCredentials?: string | undefined;
  readonly targetCredentials?: string | undefined;
}

export const successFormats = ['yaml', 'json'] as const;

export interface SuccessOptions {
  readonly file: string;
  readonly format: (typeof successFormats)[number];
}

export interface RunCommand {
  readonly command: 'plan' | 'sync' | 'verify';
  readonly rules: RulesOptions;
  readonly compare: CompareOptions;
  readonly engine: EngineOptions;
  /** Only `plan`: exit 1 when something is out of date. */
  readonly exitCode: boolean;
  /** Only `sync`. */
  readonly success?: SuccessOptions | undefined;
  readonly state?: string | undefined;
  readonly output: OutputOptions;
}

export type Command =
  | RunCommand
  | {
      readonly command: 'doctor';
      readonly rules: RulesOptions;
      readonly engine: EngineOptions;
      readonly state?: string | undefined;
      readonly output: OutputOptions;
    }
  | {
      readonly command: 'status';
      readonly run?: string | undefined;
      readonly engine: EngineOptions;
      readonly state?: string | undefined;
      readonly output: OutputOptions;
    }
  | {
      readonly command: 'convert';
      readonly images: string;
      readonly auth?: string | undefined;
      readonly output: OutputOptions;
    }
  | { readonly command: 'help'; readonly topic?: CommandName | undefined; readonly json: boolean }
  | { readonly command: 'version'; readonly json: boolean };

/** Whether the answer is to be JSON, also where the rest of the command line cannot be read. */
export function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return argv.slice(0, end === -1 ? argv.length : end).some((word) => /^--json(?:=|$)/.test(word));
}

/** @throws ERR_USAGE, naming the option and the nearest right one. */
export function parseArguments(argv: readonly string[]): Command {
  const words = readWords(argv);
  const json = words.has('json');
  if (words.has('version')) return { command: 'version', json };
  const [name, ...operands] = words.operands;
  if (name === undefined) {
    if (words.has('help') || argv.length === 0) return { command: 'help', json };
    throw usageError('Name a command: plan, sync, verify, status, convert or doctor.');
  }
  const command = readCommandName(name);
  if (words.has('help')) return { command: 'help', topic: command, json };
  checkOptions(command, words);
  checkOperands(command, operands);
  return buildCommand(command, operands, words);
}

function buildCommand(name: CommandName, operands: readonly string[], words: Words): Command {
  const output = readOutput(words);
  const engine = readEngine(words);
  const state = words.value('state');
  switch (name) {
    case 'help': {
      const topic = operands[0] === undefined ? undefined : readCommandName(operands[0]);
      return { command: 'help', topic, json: output.json };
    }
    case 'status':
      return { command: 'status', run: readRun(operands[0]), engine, state, output };
    case 'convert':
      return { command: 'convert', ...readConvert(words), output };
    case 'doctor':
      return { command: 'doctor', rules: readRulesOptions([], words), engine, state, output };
    default: {
      const success = readSuccess(words);
      const command = words.has('dry-run') ? 'plan' : name;
      return {
        command,
        rules: readRulesOptions(operands, words),
        compare: readCompare(words),
        engine,
        exitCode: words.has('exit-code'),
        success: command === 'sync' ? success : undefined,
        state,
        output,
      };
    }
  }
}

function readConvert(words: Words): { images: string; auth: string | undefined } {
  const images = words.value('images');
  if (images === undefined) throw usageError('convert needs --images FILE.');
  return { images, auth: words.value('auth') };
}

function readRulesOptions(operands: readonly string[], words: Words): RulesOptions {
  const [source, target] = operands;
  const config = words.value('config');
  const images = words.value('images');
  const auth = words.value('auth');
  if (config !== undefined && images !== undefined) {
    throw usageError('--config and --images exclude each other: both say what is mirrored.');
  }
  if (source !== undefined && images !== undefined) {
    throw usageError('--images and SOURCE TARGET exclude each other: both say what is mirrored.');
  }
  if (auth !== undefined && images === undefined) throw usageError('--auth belongs to --images.');
  return {
    config,
    images,
    auth,
    pair: readPair(source, target, words),
    platforms: platformsFromFlags(words.values('os'), words.values('arch')),
  };
}

function readPair(source: string | undefined, target: string | undefined, words: Words): Pair | undefined {
  const sourceCredentials = words.value('src-creds');
  const targetCredentials = words.value('dest-creds');
  if (source === undefined || target === undefined) {
    if (sourceCredentials ?? targetCredentials) {
      throw usageError(
        '--src-creds and --dest-creds belong to SOURCE TARGET; a rules file has `registries`.',
      );
    }
    return undefined;
  }
  return { source, target, sourceCredentials, targetCredentials };
}

function readEngine(words: Words): EngineOptions {
  return {
    proc: readCount(words, 'proc', 10, 1, 256),
    retries: readCount(words, 'retries', 3, 0, 100),
  };
}

function readCompare(words: Words): CompareOptions {
  return {
    force: words.has('force'),
    allowMassDelete: words.has('allow-mass-delete'),
    wait: readDuration(words, 'wait'),
  };
}

function readSuccess(words: Words): SuccessOptions | undefined {
  const format = readChoice(words, 'output-images-format', successFormats, 'yaml');
  const file = words.value('output-success-images');
  return file === undefined ? undefined : { file, format };
}

function readOutput(words: Words): OutputOptions {
  return {
    json: words.has('json'),
    logLevel: readChoice(words, 'log-level', logLevels, 'info'),
    logFormat: readChoice(words, 'log-format', logFormats, 'text'),
    log: words.value('log'),
  };
}

const runShape = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

function readRun(run: string | undefined): string | undefined {
  if (run !== undefined && !runShape.test(run)) {
    throw usageError(`${quote(run)} is no run: see \`hubferry status\`.`);
  }
  return run;
}

function readCount(words: Words, name: OptionName, byDefault: number, least: number, most: number): number {
  const text = words.value(name);
  if (text === undefined) return byDefault;
  const count = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (count >= least && count <= most) return count;
  throw usageError(`--${name} takes a number from ${least} to ${most}, not ${quote(text)}.`);
}

function readDuration(words: Words, name: OptionName): number {
  const text = words.value(name) ?? '0';
  const duration = parseDuration(text);
  if (duration !== undefined) return duration;
  throw usageError(`--${name} takes a duration such as 90s, 12h or 1d, not ${quote(text)}.`);
}

function readChoice<T extends string>(
  words: Words,
  name: OptionName,
  choices: readonly T[],
  byDefault: T,
): T {
  const text = words.value(name);
  if (text === undefined) return byDefault;
  const choice = choices.find((candidate) => candidate === text);
  if (choice !== undefined) return choice;
  throw usageError(`--${name} takes ${orList(choices)}, not ${quote(text)}.${hint(nearest(text, choices))}`);
}

function readCommandName(text: string): CommandName {
  const name = commandNames.find((candidate) => candidate === text);
  if (name !== undefined) return name;
  throw usageError(`There is no command ${quote(text)}.${hint(nearest(text, commandNames))}`);
}

function checkOptions(command: CommandName, words: Words): void {
  const commands: CommandName[] = words.has('dry-run') ? [command, 'plan'] : [command];
  for (const spec of optionSpecs as readonly OptionSpec[]) {
    if (!words.has(spec.name) || commands.some((name) => spec.commands.includes(name))) continue;
    throw usageError(`--${spec.name} is no option of ${command}, but of ${spec.commands.join(', ')}.`);
  }
}

function checkOperands(command: CommandName, operands: readonly string[]): void {
  const { most, operands: expected } = commandSpecs[command];
  if (operands.length > 0 && most === 0) throw usageError(`${command} takes no names.`);
  if (operands.length > most) throw usageError(`${command} takes ${expected}, not ${operands.length} names.`);
  if (most === 2 && operands.length === 1)
    throw usageError(`${command} takes SOURCE and TARGET, or neither.`);
}

/** The command line as words: operands in order, options with their values. */
interface Words {
  readonly operands: readonly string[];
  has(name: string): boolean;
  /** The last value given. */
  value(name: OptionName): string | undefined;
  values(name: OptionName): readonly string[];
}

type OptionConfig = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>['options']>;

const parseConfig: OptionConfig = Object.fromEntries(
  (optionSpecs as readonly OptionSpec[]).map(({ name, short, value }) => [
    name,
    {
      type: value === undefined ? 'boolean' : 'string',
      multiple: true,
      ...(short !== undefined && { short }),
    },
  ]),
);

function readWords(argv: readonly string[]): Words {
  // Not `strict`: its messages repeat values, which may be secrets, and know no nearest option.
  const { tokens } = parseArgs({
    args: [...argv],
    options: parseConfig,
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const operands: string[] = [];
  const options = new Map<string, string[]>();
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value);
    if (token.kind !== 'option') continue;
    checkToken(token);
    options.set(token.name, [...(options.get(token.name) ?? []), token.value ?? '']);
  }
  return {
    operands,
    has: (name) => options.has(name),
    value: (name) => options.get(name)?.at(-1),
    values: (name) => options.get(name) ?? [],
  };
}

interface OptionToken {
  readonly name: string;
  readonly rawName: string;
  readonly value?: string | undefined;
  readonly inlineValue?: boolean | undefined;
}

function checkToken({ name, rawName, value, inlineValue }: OptionToken): void {
  const names: readonly string[] = optionSpecs.map((spec) => spec.name);
  const spec = (optionSpecs as readonly OptionSpec[]).find((candidate) => candidate.name === name);
  if (spec === undefined) {
    const near = nearest(name, names) ?? names.find((candidate) => candidate.startsWith(name));
    throw usageError(`There is no option ${quote(rawName)}.${hint(near === undefined ? near : `--${near}`)}`);
  }
  if (spec.value === undefined) {
    if (value !== undefined) throw usageError(`--${name} takes no value.`);
    return;
  }
  if (value === undefined || value === '')
    throw usageError(`--${name} needs a value: --${name} ${spec.value}.`);
  if (inlineValue !== true && /^-./.test(value)) {
    throw usageError(`--${name} needs a value; one that begins with "-" is written --${name}=${spec.value}.`);
  }
}

function usageError(message: string): ConfigError {
  return new ConfigError('ERR_USAGE', message);
}

function hint(near: string | undefined): string {
  return near === undefined ? '' : ` Did you mean ${near}?`;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}

function orList(choices: readonly string[]): string {
  return `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
}
