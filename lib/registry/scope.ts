/** Token scopes: `repository:a/b:pull,push` (distribution's "Token Scope Documentation"). */

/**
 * Brings scopes together: one for each resource with all its actions, in a fixed order, so that equal rights share one
 * token. A text that is no scope stays as it is.
 */
export function mergeScopes(scopes: Iterable<string>): readonly string[] {
  const actionsOf = new Map<string, Set<string>>();
  for (const scope of scopes) {
    const cut = scope.lastIndexOf(':');
    if (scope === '') continue;
    const resource = cut === -1 ? scope : scope.slice(0, cut);
    const actions = actionsOf.get(resource) ?? new Set();
    actionsOf.set(resource, actions);
    if (cut !== -1) for (const action of scope.slice(cut + 1).split(',')) actions.add(action);
  }
  return [...actionsOf]
    .map(([resource, actions]) =>
      actions.size === 0 ? resource : `${resource}:${[...actions].sort().join(',')}`,
    )
    .sort();
}

/** The scopes of a challenge: separated by spaces (RFC 6750 section 3). */
export function splitScopes(text: string | undefined): readonly string[] {
  return (text ?? '').split(' ').filter((scope) => scope !== '');
}

/** What reading a repository needs, or reading and writing it. */
export function repositoryScope(path: string, ...actions: readonly ('pull' | 'push' | 'delete')[]): string {
  return `repository:${path}:${actions.join(',')}`;
}
