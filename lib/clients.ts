/** Which client speaks to which registry: one for each settings object of the rules file, opened when it is needed. */
import type { RegistrySettings, RepositoryName, Rule, Rules, Side } from './config/model.ts';
import type { Observer, Source, Target } from './oci/roles.ts';
import { readDockerCredential } from './registry/credentials.ts';
import type { HostGate } from './registry/gate.ts';
import { createRegistry, type Registry } from './registry/registry.ts';
import { type CredentialSource, fixedCredential } from './registry/token.ts';

export interface ClientOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly gate: HostGate;
  readonly retries: number;
  readonly maxWaitMs: number;
}

/** The clients of one process, by settings: `registryFor` gives the same object for the same entry. */
export class Clients {
  readonly #options: ClientOptions;
  readonly #open = new Map<RegistrySettings, Registry>();

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  source(rules: Rules, repository: RepositoryName, observer: Observer): Source {
    return this.#client(rules, repository, 'source').repository(repository.path, {
      access: 'read',
      observer,
    });
  }

  target(rules: Rules, repository: RepositoryName, observer: Observer): Target {
    return this.#client(rules, repository, 'target').repository(repository.path, {
      access: 'write',
      observer,
    });
  }

  /** What a rule for a whole namespace stands for; any other rule is itself. */
  async expand(_rules: Rules, rule: Rule, _observer: Observer, _signal: AbortSignal): Promise<Rule[]> {
    return [rule];
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map((client) => client.close()));
  }

  #client(rules: Rules, repository: RepositoryName, side: Side): Registry {
    const settings = rules.registryFor(repository, side);
    const open = this.#open.get(settings) ?? this.#create(settings, repository);
    this.#open.set(settings, open);
    return open;
  }

  #create(settings: RegistrySettings, repository: RepositoryName): Registry {
    const { env, gate, retries, maxWaitMs } = this.#options;
    return createRegistry({
      settings,
      gate,
      retries,
      maxWaitMs,
      credentials: credentialsOf(settings, repository, env),
    });
  }
}

/** The file's login; without one, that of Docker's own configuration. */
function credentialsOf(
  settings: RegistrySettings,
  { host, path }: RepositoryName,
  env: ClientOptions['env'],
): CredentialSource {
  const { username, password } = settings;
  if (username !== undefined && password !== undefined) return fixedCredential({ username, password });
  return async ({ refused }) => (refused === undefined ? readDockerCredential(host, path, env) : undefined);
}
