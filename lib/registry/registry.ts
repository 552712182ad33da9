import type { RegistrySettings } from '../config/model.ts';
import type { Observer } from '../oci/roles.ts';
import type { ReferrersSupport } from './referrers.ts';
import { type Access, Repository } from './repository.ts';
import { createTransport, type Transport, type TransportOptions } from './transport.ts';

export interface RepositoryRequest {
  /** @default 'write' */
  readonly access?: Access;
  readonly observer?: Observer | undefined;
}

/** One registry: its connections, its login, and what is known of it. One for each `RegistrySettings` of a process. */
export interface Registry {
  readonly settings: RegistrySettings;
  readonly transport: Transport;
  repository(path: string, request?: RepositoryRequest): Repository;
  close(): Promise<void>;
}

export function createRegistry(options: TransportOptions): Registry {
  const { settings } = options;
  const transport = createTransport(options);
  const referrers: ReferrersSupport = { api: 'unknown' };
  return {
    settings,
    transport,
    repository: (path, { access = 'write', observer } = {}) =>
      new Repository({ settings, transport, path, access, observer, referrers }),
    close: () => transport.close(),
  };
}
