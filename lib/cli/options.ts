/** Commands and options as data: parsing, help and messages all read this table. */

export const commandNames = ['plan', 'sync', 'verify', 'status', 'convert', 'doctor', 'help'] as const;
export type CommandName = (typeof commandNames)[number];

export interface CommandSpec {
  /** What stands after the name. */
  readonly operands: string;
  readonly summary: string;
  readonly most: number;
}

export const commandSpecs: Readonly<Record<CommandName, CommandSpec>> = {
  plan: { operands: '[SOURCE TARGET]', summary: 'what sync would do; changes nothing', most: 2 },
  sync: { operands: '[SOURCE TARGET]', summary: 'copy what is out of date', most: 2 },
  verify: {
    operands: '[SOURCE TARGET]',
    summary: 'compare source and target, down to every manifest and blob',
    most: 2,
  },
  status: { operands: '[RUN]', summary: 'the last runs and what failed in them', most: 1 },
  convert: {
    operands: '--images FILE [--auth FILE]',
    summary: 'the equivalent sync.yaml, on standard output',
    most: 0,
  },
  doctor: {
    operands: '',
    summary: 'check files, logins, rights, allowance; a remedy for each finding',
    most: 0,
  },
  help: { operands: '[COMMAND]', summary: 'this text, or that of a command', most: 1 },
};

export interface OptionSpec {
  readonly name: string;
  readonly short?: string;
  /** Names the value of an option that takes one. */
  readonly value?: string;
  readonly help: string;
  /** As people read it; checked against the parsed defaults by a test. */
  readonly byDefault?: string;
  readonly repeatable?: true;
  readonly commands: readonly CommandName[];
}

const comparing: readonly CommandName[] = ['plan', 'sync', 'verify'];
const withFiles: readonly CommandName[] = [...comparing, 'doctor'];
export const everyCommand: readonly CommandName[] = commandNames;

export const optionSpecs = [
  {
    name: 'config',
    value: 'FILE',
    help: "rules file, or image-syncer's config.json",
    byDefault: 'sync.yaml',
    commands: withFiles,
  },
  {
    name: 'images',
    value: 'FILE',
    help: "image-syncer's images.yaml",
    commands: [...withFiles, 'convert'],
  },
  {
    name: 'auth',
    value: 'FILE',
    help: "image-syncer's auth.yaml",
    commands: [...withFiles, 'convert'],
  },
  { name: 'src-creds', value: 'U:P', help: 'user and password for SOURCE', commands: comparing },
  { name: 'dest-creds', value: 'U:P', help: 'user and password for TARGET', commands: comparing },
  {
    name: 'proc',
    short: 'p',
    value: 'N',
    help: 'blobs in flight',
    byDefault: '10',
    commands: comparing,
  },
  {
    name: 'retries',
    short: 'r',
    value: 'N',
    help: 'attempts after the first, per failing request or blob',
    byDefault: '3',
    commands: withFiles,
  },
  {
    name: 'os',
    value: 'OS',
    help: 'operating system to keep where a rule has no platforms',
    byDefault: 'all',
    repeatable: true,
    commands: withFiles,
  },
  {
    name: 'arch',
    value: 'ARCH',
    help: 'architecture to keep where a rule has no platforms',
    byDefault: 'all',
    repeatable: true,
    commands: withFiles,
  },
  {
    name: 'force',
    help: 'check everything below equal tags, fill what is missing, push again what is equal',
    commands: comparing,
  },
  {
    name: 'allow-mass-delete',
    help: 'let prune delete more than its share',
    commands: comparing,
  },
  { name: 'exit-code', help: 'exit 1 when something is out of date', commands: ['plan'] },
  { name: 'dry-run', help: 'the same as plan', commands: ['sync'] },
  {
    name: 'wait',
    value: 'DURATION',
    help: 'wait that long for a rate limit instead of ending with deferred tags',
    byDefault: '0',
    commands: comparing,
  },
  {
    name: 'state',
    value: 'WHERE',
    help: 'folder, or blob endpoint of a storage account',
    byDefault: '.hubferry',
    commands: [...withFiles, 'status'],
  },
  {
    name: 'output-success-images',
    value: 'FILE',
    help: "write what was copied, in image-syncer's format",
    commands: ['plan', 'sync'],
  },
  {
    name: 'output-images-format',
    value: 'F',
    help: 'yaml or json',
    byDefault: 'yaml',
    commands: ['plan', 'sync'],
  },
  { name: 'json', help: 'standard output holds one JSON document, on every exit', commands: everyCommand },
  {
    name: 'log-level',
    value: 'L',
    help: 'debug, info, warn or error',
    byDefault: 'info',
    commands: everyCommand,
  },
  { name: 'log-format', value: 'F', help: 'text or json', byDefault: 'text', commands: everyCommand },
  {
    name: 'log',
    value: 'FILE',
    help: 'append the logs to a file too, besides standard error',
    commands: everyCommand,
  },
  { name: 'help', short: 'h', help: 'help for a command', commands: everyCommand },
  { name: 'version', short: 'V', help: 'the version', commands: everyCommand },
] as const satisfies readonly OptionSpec[];

export type OptionName = (typeof optionSpecs)[number]['name'];
