/** Rules from the command line: SOURCE TARGET, and the options that say the same as a file. */
import type { PlatformPattern } from '../oci/platform.ts';
import { assembleRules, noFilter, type RegistryFor } from './assemble.ts';
import { type ConfigText, readDocument } from './document.ts';
import { parseSource, parseTarget } from './forms.ts';
import { imageSyncerForm, registriesOfImageSyncer } from './image-syncer.ts';
import type { RegistrySettings, Rules, Side } from './model.ts';
import { commandLine, readAt } from './origin.ts';
import { readPlatform } from './platforms.ts';
import { type RegistryLookup, readRegistries } from './registries.ts';
import { readRegistriesOf } from './sync-file.ts';
import type { VariableScope } from './variables.ts';

export interface ArgumentOptions extends VariableScope {
  /** `--config`: a file that gives `registries` (or image-syncer's `auth`) only. */
  readonly config?: ConfigText | undefined;
  /** `--src-creds`, as `user:password`. */
  readonly sourceCredentials?: string | undefined;
  /** `--dest-creds`, as `user:password`. */
  readonly targetCredentials?: string | undefined;
  readonly platforms?: readonly PlatformPattern[] | undefined;
}

interface Login {
  readonly username: string;
  readonly password: string;
}

/** The one rule that SOURCE and TARGET mean. @throws ConfigError */
export function ruleFromArguments(source: string, target: string, options: ArgumentOptions): Rules {
  const logins = {
    source: readLogin('--src-creds', options.sourceCredentials),
    target: readLogin('--dest-creds', options.targetCredentials),
  };
  const from = readAt(commandLine, ['SOURCE'], () => parseSource(source));
  const to = readAt(commandLine, ['TARGET'], () => parseTarget(target, from));
  const draft = {
    path: ['SOURCE'],
    source: from,
    sourcePath: ['SOURCE'],
    targets: [{ target: to, path: ['TARGET'] }],
    tags: noFilter,
    tagsPath: ['SOURCE'],
    platforms: [],
    referrers: true,
    prune: false,
    overwrite: true,
  };
  return assembleRules([draft], {
    origin: commandLine,
    registryFor: withLogins(readConfig(options), logins),
    platforms: options.platforms,
  });
}

/**
 * The platforms of `--os` and `--arch`, each repeatable: every combination. As in image-syncer, an operating system
 * may have a version (`windows:10.0.17763`) and an architecture a variant (`arm:v7`).
 * @throws ConfigError
 */
export function platformsFromFlags(
  systems: readonly string[],
  architectures: readonly string[],
): readonly PlatformPattern[] {
  if (systems.length + architectures.length === 0) return [];
  return orAny(systems).flatMap((os) =>
    orAny(architectures).map((architecture) => {
      const flag = systems.length > 0 ? '--os' : '--arch';
      return readAt(commandLine, [flag], () => readPlatform(`${os}/${architecture}`));
    }),
  );
}

function orAny(values: readonly string[]): readonly string[] {
  return values.length > 0 ? values : ['*'];
}

function readConfig({ config, ...scope }: ArgumentOptions): RegistryLookup {
  if (config === undefined) return readRegistries([], commandLine);
  const document = readDocument(config);
  const form = imageSyncerForm(document.value);
  return form === undefined
    ? readRegistriesOf(document, scope)
    : registriesOfImageSyncer(form, document, scope);
}

function readLogin(option: string, text: string | undefined): Login | undefined {
  if (text === undefined) return undefined;
  const colon = text.indexOf(':');
  if (colon > 0 && colon < text.length - 1) {
    return { username: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  throw commandLine.mistake([option], `${option} takes user:password.`);
}

/** Both sides may be on one host: each has its own settings then, the same object for the same settings of the file. */
function withLogins(
  registryFor: RegistryLookup,
  logins: Readonly<Record<Side, Login | undefined>>,
): RegistryFor {
  const replaced: Record<Side, Map<RegistrySettings, RegistrySettings>> = {
    source: new Map(),
    target: new Map(),
  };
  return (repository, side) => {
    const settings = registryFor(repository);
    const login = logins[side];
    if (login === undefined) return settings;
    const known = replaced[side].get(settings) ?? Object.freeze({ ...settings, ...login, identity: false });
    replaced[side].set(settings, known);
    return known;
  };
}
