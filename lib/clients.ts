/** Which client speaks to which registry: one for each settings object of the rules file, opened when it is needed. */
import type { TokenCredential } from '@azure/core-auth';
import { type Acr, createAcr } from './acr.ts';
import type { RegistrySettings, RepositoryName, Rule, Rules } from './config/model.ts';
import { createDockerHub, type DockerHub } from './dockerhub.ts';
import { HubferryError } from './errors.ts';
import type { Observer, Source, Target } from './oci/roles.ts';
import { DockerEntries, readDockerCredential } from './registry/credentials.ts';
import type { HostGate } from './registry/gate.ts';
import { createRegistry, type Registry } from './registry/registry.ts';
import { type CredentialSource, fixedCredential } from './registry/token.ts';
import { forRepository, isNamespace } from './sync/select/namespace.ts';

export interface ClientOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly gate: HostGate;
  readonly retries: number;
  readonly maxWaitMs: number;
  /** Blobs in flight, which decide how many sockets a host gets. */
  readonly blobs: number;
  /** The Azure identity, for registries of kind `acr`; asked for when one is opened. */
  readonly identity: () => TokenCredential;
}

/**
 * The clients of one process: one for each login. They go by settings (`registryFor` gives the same object for the same entry)
 * and, where these have no login, by the entry of the user's Docker configuration that has it.
 */
export class Clients {
  readonly #options: ClientOptions;
  /** Read where a registry has no login of its own. */
  #entries: DockerEntries | undefined;
  readonly #registries = new ByLogin<Registry>();
  readonly #hubs = new ByLogin<DockerHub>();
  readonly #acrs = new ByLogin<Acr>();

  constructor(options: ClientOptions) {
    this.#options = options;
  }

  source(rules: Rules, repository: RepositoryName, observer: Observer): Source {
    const settings = rules.registryFor(repository, 'source');
    if (settings.kind === 'dockerhub')
      return this.#hub(settings, repository).repository(repository.path, { observer });
    return this.#open(settings, repository).repository(repository.path, { access: 'read', observer });
  }

  target(rules: Rules, repository: RepositoryName, observer: Observer): Target {
    const settings = rules.registryFor(repository, 'target');
    return this.#open(settings, repository).repository(repository.path, { access: 'write', observer });
  }

  /** What a rule for a whole namespace stands for; any other rule is itself. @throws ERR_UNSUPPORTED where nobody lists it */
  async expand(rules: Rules, rule: Rule, observer: Observer, signal: AbortSignal): Promise<Rule[]> {
    const { source } = rule;
    if (!isNamespace(source)) return [rule];
    const settings = rules.registryFor(source, 'source');
    if (settings.kind !== 'dockerhub') {
      throw new HubferryError('ERR_UNSUPPORTED', `${source.host} lists no namespaces: name its repositories`);
    }
    const expanded: Rule[] = [];
    const namespace = source.path.slice(0, -'/*'.length);
    for await (const path of this.#hub(settings, source).listNamespace(namespace, { observer, signal })) {
      expanded.push(forRepository(rule, path));
    }
    return expanded;
  }

  async close(): Promise<void> {
    const open = [...this.#registries.all(), ...this.#hubs.all(), ...this.#acrs.all()];
    await Promise.all(open.map((client) => client.close()));
  }

  #open(settings: RegistrySettings, repository: RepositoryName): Registry | Acr {
    return settings.kind === 'acr' ? this.#acr(settings, repository) : this.#registry(settings, repository);
  }

  #acr(settings: RegistrySettings, repository: RepositoryName): Acr {
    const identity = settings.identity ? { identity: this.#options.identity() } : {};
    const create = () => createAcr({ ...this.#transportFor(settings, repository), ...identity });
    return this.#acrs.open(settings, this.#entryOf(settings, repository), create);
  }

  #registry(settings: RegistrySettings, repository: RepositoryName): Registry {
    const create = () => createRegistry(this.#transportFor(settings, repository));
    return this.#registries.open(settings, this.#entryOf(settings, repository), create);
  }

  #hub(settings: RegistrySettings, repository: RepositoryName): DockerHub {
    const create = () => createDockerHub(this.#transportFor(settings, repository));
    return this.#hubs.open(settings, this.#entryOf(settings, repository), create);
  }

  #entryOf(settings: RegistrySettings, { host, path }: RepositoryName): string {
    if (hasLogin(settings)) return '';
    this.#entries ??= new DockerEntries(this.#options.env);
    return this.#entries.nameFor(host, path) ?? '';
  }

  #transportFor(settings: RegistrySettings, repository: RepositoryName) {
    const { env, gate, retries, maxWaitMs, blobs } = this.#options;
    const credentials = credentialsOf(settings, repository, env);
    // A copy within one registry needs two sockets a blob; what is over serves manifests and listings.
    return { settings, gate, retries, maxWaitMs, credentials, socketsPerHost: 2 * blobs + 12 };
  }
}

class ByLogin<Client> {
  readonly #clients = new Map<RegistrySettings, Map<string, Client>>();

  open(settings: RegistrySettings, entry: string, create: () => Client): Client {
    const clients = this.#clients.get(settings) ?? new Map<string, Client>();
    this.#clients.set(settings, clients);
    const client = clients.get(entry) ?? create();
    clients.set(entry, client);
    return client;
  }

  all(): Client[] {
    return [...this.#clients.values()].flatMap((clients) => [...clients.values()]);
  }
}

/** Whether the rules file says how to log in. */
export function hasLogin({ identity, username, password }: RegistrySettings): boolean {
  return identity || (username !== undefined && password !== undefined);
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
