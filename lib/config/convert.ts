/** image-syncer's files as the `sync.yaml` that means the same. Passwords do not get into it. */
import { Document, isMap } from 'yaml';
import { formatSource, formatTarget } from './forms.ts';
import { type AuthEntry, type ImageSyncerFiles, readImageSyncerContents, wholeKey } from './image-syncer.ts';
import type { Rule, RuleSource } from './model.ts';
import { isPrefixed, type VariableScope } from './variables.ts';

export interface Conversion {
  /** YAML, with comments on what is left to do. */
  readonly text: string;
  /** The same as a plain value. */
  readonly document: Readonly<Record<string, unknown>>;
}

interface ConvertedRegistry {
  readonly key: string;
  readonly insecure: boolean;
  readonly settings: {
    readonly username?: string;
    readonly password?: string;
    readonly skipTlsVerify?: true;
  };
  /** The variable that now stands for a password. */
  readonly replaced: string | undefined;
}

/** @throws ConfigError */
export function convertToSyncYaml(files: ImageSyncerFiles, scope: VariableScope): Conversion {
  const { rules, auth, expandsLogins } = readImageSyncerContents(files, scope);
  const registries = convertRegistries(auth, expandsLogins);
  const document = {
    version: 1,
    ...(registries.length > 0 && {
      registries: Object.fromEntries(registries.map(({ key, settings }) => [key, settings])),
    }),
    rules: rules.map(convertRule),
  };
  return { text: write(document, registries), document };
}

function convertRule(rule: Rule): Readonly<Record<string, unknown>> {
  const { name, source, targets } = rule;
  const texts = targets.map(formatTarget);
  const anchored = anchor(source);
  return {
    // The name that image-syncer's file gives: the reports before and after the conversion fit together.
    ...(anchored !== source && { name }),
    source: formatSource(anchored),
    target: texts.length === 1 ? texts[0] : texts,
  };
}

/** image-syncer's expressions match anywhere in a tag, those of `sync.yaml` the whole of it. */
function anchor(source: RuleSource): RuleSource {
  const { selector } = source;
  if (selector.kind !== 'pattern' || selector.pattern.anchored) return source;
  const { kind, text } = selector.pattern;
  const whole = `.*(?:${text}${endsQuoted(text) ? '\\E' : ''}).*`;
  return { ...source, selector: { kind: 'pattern', pattern: { kind, text: whole, anchored: true } } };
}

/** Whether a `\Q` is open at the end: it would swallow what follows. */
function endsQuoted(expression: string): boolean {
  const rest = expression.replace(/\\Q[\s\S]*?\\E|\\[^Q]/g, '');
  return rest.includes('\\Q');
}

function convertRegistries(auth: readonly AuthEntry[], expandsLogins: boolean): readonly ConvertedRegistry[] {
  const used = new Set<string>();
  return auth.map(({ key: written, login, insecure }) => {
    const key = wholeKey(written);
    const kept = login !== undefined && expandsLogins && isVariable(login.password);
    const replaced = login === undefined || kept ? undefined : unusedName(variableFor(key), used);
    const settings = {
      ...(login && {
        username: expandsLogins ? login.username : login.username.replaceAll('$', '$$$$'),
        password: replaced === undefined ? login.password : `$\{${replaced}}`,
      }),
      ...(insecure && { skipTlsVerify: true as const }),
    };
    return { key, insecure, settings, replaced };
  });
}

function isVariable(text: string): boolean {
  return /^\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})$/.test(text);
}

/** A name that the function app may expand as well. */
function variableFor(key: string): string {
  if (key === 'docker.io') return 'DOCKERHUB_TOKEN';
  return `SECRET_${key.toUpperCase().replace(/[^A-Z0-9]+/g, '_')}_PASSWORD`;
}

function unusedName(name: string, used: Set<string>): string {
  let unused = name;
  for (let count = 2; used.has(unused); count++) unused = `${name}_${count}`;
  used.add(unused);
  return unused;
}

function write(value: Conversion['document'], registries: readonly ConvertedRegistry[]): string {
  const document = new Document(value);
  document.commentBefore = headOf(registries)
    .map((line) => ` ${line}`.trimEnd())
    .join('\n');
  for (const { key } of registries.filter(({ insecure }) => insecure)) {
    const settings = document.getIn(['registries', key], true);
    if (isMap(settings)) {
      settings.commentBefore = ` image-syncer's insecure. If the registry speaks no TLS, add the line\n endpoint: http://${key.split('/')[0]}`;
    }
  }
  return document.toString({ lineWidth: 0 });
}

function headOf(registries: readonly ConvertedRegistry[]): readonly string[] {
  const replaced = registries.flatMap(({ key, replaced: name }) =>
    name === undefined ? [] : [`  ${name}: password of ${key}`],
  );
  const foreign = registries
    .flatMap(({ settings }) => variablesIn(settings))
    .filter((name) => !isPrefixed(name));
  return [
    "Rules for hubferry, converted from image-syncer's files.",
    ...(replaced.length > 0 ? ['', 'Set these variables, which stand for the passwords:', ...replaced] : []),
    ...(foreign.length > 0
      ? [
          '',
          `In the function app rename ${[...new Set(foreign)].join(', ')}: there, names start with SECRET_.`,
        ]
      : []),
  ];
}

function variablesIn({ username = '', password = '' }: ConvertedRegistry['settings']): readonly string[] {
  const text = `${username} ${password}`.replaceAll('$$', '');
  return [...text.matchAll(/\$\{?([A-Za-z_]\w*)/g)].flatMap(([, name]) => (name === undefined ? [] : [name]));
}
