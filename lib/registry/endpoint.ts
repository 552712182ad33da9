import type { RegistrySettings } from '../config/model.ts';
import { RegistryError, redactUrl } from '../errors.ts';
import { isLoopbackHost } from './addresses.ts';

/** Where a registry's API is: its base URL, and the origin that its credentials may go to. */
export class Endpoint {
  readonly host: string;
  #base: string;
  #origin: string;
  #mayFallBack: boolean;

  constructor(settings: RegistrySettings) {
    this.host = settings.host;
    this.#base = settings.endpoint;
    this.#origin = new URL(settings.endpoint).origin;
    this.#mayFallBack = settings.allowHttpFallback && this.#origin.startsWith('https:');
  }

  /** Without a trailing slash. */
  get base(): string {
    return this.#base;
  }

  /** Scheme, host and port. */
  get origin(): string {
    return this.#origin;
  }

  /** Whether the registry is spoken to without TLS: by its settings, or because it is on this machine. */
  get isPlain(): boolean {
    return this.#origin.startsWith('http:') || isLoopbackHost(new URL(this.#origin).hostname);
  }

  /** The URL of a path below the endpoint; an absolute URL stays. */
  resolve(url: string): URL {
    const absolute = url.startsWith('/') ? this.#base + url : url;
    if (!URL.canParse(absolute)) {
      const shown = redactUrl(absolute);
      throw new RegistryError('ERR_PROTOCOL', `Not a URL: ${shown}`, { method: '', url: shown });
    }
    return new URL(absolute);
  }

  /** The host has answered over the scheme in use: from now on it stays. */
  settle(): void {
    this.#mayFallBack = false;
  }

  /** Moves to plain HTTP where the settings allow it and TLS never worked; false where it must not. */
  fallBack(): boolean {
    if (!this.#mayFallBack) return false;
    this.#mayFallBack = false;
    this.#base = this.#base.replace(/^https:/, 'http:');
    this.#origin = new URL(this.#base).origin;
    return true;
  }
}
