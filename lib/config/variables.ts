/** `$NAME` and `${NAME}` in credentials. Values never show in messages; only names do. */
import { HubferryError } from '../errors.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface VariableScope {
  readonly env: Environment;
  /**
   * `prefixed`: only names that start with `DOCKERHUB_` or `SECRET_`. In the function app whoever may write
   * rules must not read the process's other settings by sending them to a registry as a password.
   */
  readonly variables: 'all' | 'prefixed';
}

const expansion = /\$(?:(?<dollar>\$)|(?<bare>[A-Za-z_]\w*)|\{(?<braced>[A-Za-z_]\w*)\}|)/g;

/** Expands every variable; `$$` is a dollar. @throws ERR_VARIABLE_UNSET, ERR_SECRET_UNRESOLVED, ERR_CONFIG */
export function expandVariables(text: string, scope: VariableScope): string {
  return text.replace(expansion, (_match, dollar?: string, bare?: string, braced?: string) => {
    if (dollar !== undefined) return '$';
    const name = bare ?? braced;
    if (name !== undefined) return readVariable(name, scope);
    throw new HubferryError(
      'ERR_CONFIG',
      'A "$" begins a variable, such as $NAME: write "$$" for a dollar sign.',
    );
  });
}

/** Whether the function app, too, may expand the name. */
export function isPrefixed(name: string): boolean {
  return /^(?:DOCKERHUB|SECRET)_/.test(name);
}

/** A setting that the platform should have replaced by a secret of Key Vault, and has not. */
export function isUnresolvedSecret(value: string): boolean {
  return value.startsWith('@Microsoft.KeyVault(');
}

export function unresolvedSecret(name: string): HubferryError {
  return new HubferryError(
    'ERR_SECRET_UNRESOLVED',
    `The setting ${name} still holds its Key Vault reference: the platform has not resolved it.`,
  );
}

function readVariable(name: string, { env, variables }: VariableScope): string {
  if (variables === 'prefixed' && !isPrefixed(name)) {
    throw new HubferryError(
      'ERR_VARIABLE_UNSET',
      `The variable ${name} may not be read here: only names that start with DOCKERHUB_ or SECRET_ are expanded.`,
    );
  }
  const value = Object.hasOwn(env, name) ? env[name] : undefined;
  if (value === undefined || value === '') {
    throw new HubferryError('ERR_VARIABLE_UNSET', `The variable ${name} is not set.`);
  }
  if (isUnresolvedSecret(value)) throw unresolvedSecret(name);
  return value;
}
