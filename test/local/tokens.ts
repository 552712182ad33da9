/**
 * Tokens as the stand-ins give and check them: signed JWTs (RFC 7519) whose key is no secret, so that stand-ins
 * in different processes trust each other.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { replyError } from './answers.ts';
import type { Answer, Exchange } from './server.ts';

const key = 'stand-in';

export interface Claims {
  readonly aud: string;
  /** Seconds since the epoch. */
  readonly exp: number;
  readonly [claim: string]: unknown;
}

export function signToken(claims: Claims): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${body}.${createHmac('sha256', key).update(body).digest('base64url')}`;
}

/** The claims of a token that a stand-in has signed, whether it has expired or not. */
export function readToken(token: string): Claims | undefined {
  const end = token.lastIndexOf('.');
  const [, claims] = token.split('.');
  if (claims === undefined) return undefined;
  const expected = createHmac('sha256', key).update(token.slice(0, end)).digest();
  const given = Buffer.from(token.slice(end + 1), 'base64url');
  if (given.byteLength !== expected.byteLength || !timingSafeEqual(given, expected)) return undefined;
  return JSON.parse(Buffer.from(claims, 'base64url').toString()) as Claims;
}

/** `repository:library/nginx:pull,push` (distribution, "Token scope"). */
export interface Scope {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

export function repositoryScope(name: string, ...actions: string[]): Scope {
  return { type: 'repository', name, actions };
}

/** Scopes as a query or form repeats them, or as one text with spaces. */
export function parseScopes(texts: readonly string[]): Scope[] {
  return texts.flatMap((text) =>
    text
      .split(' ')
      .filter((scope) => scope !== '')
      .map((scope) => {
        const [type = '', ...rest] = scope.split(':');
        const actions = rest.pop() ?? '';
        return { type, name: rest.join(':'), actions: actions.split(',').filter((action) => action !== '') };
      }),
  );
}

export function formatScope(scope: Scope): string {
  return `${scope.type}:${scope.name}:${scope.actions.join(',')}`;
}

/** Decides over a request to a registry. */
export interface Guard {
  /** Whether the request's login covers the scope. */
  allows(exchange: Exchange, scope?: Scope): boolean;
  /** A refusal that says how to log in. */
  challenge(exchange: Exchange, scope?: Scope): Answer;
}

export const open: Guard = { allows: () => true, challenge: () => refuse('') };

export function basicGuard(username: string, password: string): Guard {
  return {
    allows: ({ basic }) => basic?.username === username && basic.password === password,
    challenge: () => refuse('Basic realm="stand-in"'),
  };
}

export interface TokenAuthorityOptions {
  readonly service: string;
  /** Where tokens are to be had; known only once the server listens. */
  readonly realm: () => string;
  readonly lifetimeSeconds: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** What an account (`undefined` is everybody) may do; a subset of what is asked for. */
  readonly grant: (account: string | undefined, scope: Scope) => readonly string[];
}

/** Gives access tokens for scopes, and guards a registry that takes them. */
export class TokenAuthority implements Guard {
  readonly #options: TokenAuthorityOptions;
  /** Tokens of an earlier generation are refused. */
  #generation = 0;
  /** Can be shortened while it runs. */
  lifetimeSeconds: number;

  constructor(options: TokenAuthorityOptions) {
    this.#options = options;
    this.lifetimeSeconds = options.lifetimeSeconds;
  }

  get service(): string {
    return this.#options.service;
  }

  issue(account: string | undefined, scopes: readonly Scope[]): string {
    const iat = Math.floor(this.#options.now() / 1000);
    const access = scopes.map((scope) => ({ ...scope, actions: this.#options.grant(account, scope) }));
    return signToken({
      aud: this.#options.service,
      sub: account ?? '',
      iat,
      exp: iat + this.lifetimeSeconds,
      generation: this.#generation,
      access,
    });
  }

  /** Refuses every token that was given until now. */
  revoke(): void {
    this.#generation += 1;
  }

  allows(exchange: Exchange, scope?: Scope): boolean {
    const claims = this.#claims(exchange);
    if (claims === undefined) return false;
    if (scope === undefined) return true;
    const access = claims.access as readonly Scope[];
    return scope.actions.every((action) =>
      access.some(
        (granted) =>
          granted.type === scope.type &&
          granted.name === scope.name &&
          (granted.actions.includes(action) || granted.actions.includes('*')),
      ),
    );
  }

  challenge(exchange: Exchange, scope?: Scope): Answer {
    const { realm, service } = this.#options;
    const parts = [`Bearer realm="${realm()}"`, `service="${service}"`];
    if (scope !== undefined) parts.push(`scope="${formatScope(scope)}"`);
    if (exchange.bearer !== undefined) {
      parts.push(`error="${this.#claims(exchange) === undefined ? 'invalid_token' : 'insufficient_scope'}"`);
    }
    return refuse(parts.join(','));
  }

  /** The account that a request's token was given to: `''` for everybody, `undefined` without a good token. */
  accountOf(exchange: Exchange): string | undefined {
    return this.#claims(exchange)?.sub as string | undefined;
  }

  #claims(exchange: Exchange): Claims | undefined {
    const claims = exchange.bearer === undefined ? undefined : readToken(exchange.bearer);
    if (claims === undefined || claims.aud !== this.#options.service) return undefined;
    if (claims.exp * 1000 <= this.#options.now() || claims.generation !== this.#generation) return undefined;
    return claims;
  }
}

function refuse(challenge: string): Answer {
  return replyError(401, 'UNAUTHORIZED', 'authentication required', { 'www-authenticate': challenge });
}
