/** Makes rules of what a file or the command line says, and refuses what contradicts itself. */
import { createHash } from 'node:crypto';
import { formatRepository } from '../oci/reference.ts';
import { isNamespace } from '../sync/select/namespace.ts';
import { findConflict } from './conflicts.ts';
import type { Path } from './document.ts';
import type { RuleDraft } from './draft.ts';
import { formatSource, formatTarget } from './forms.ts';
import type {
  PlatformPattern,
  RegistrySettings,
  RepositoryName,
  Rule,
  RuleSource,
  Rules,
  RuleTarget,
  Side,
  TagFilter,
} from './model.ts';
import type { Origin } from './origin.ts';

/** Messages and documents carry names: request.ts allows 512 characters. */
const maxDefaultName = 500;

export type RegistryFor = (repository: RepositoryName, side: Side) => RegistrySettings;

export interface AssembleOptions {
  readonly origin: Origin;
  readonly registryFor: RegistryFor;
  /** For rules that have none of their own. */
  readonly platforms?: readonly PlatformPattern[] | undefined;
}

/** What a rule filters that says nothing about tags. */
export const noFilter: TagFilter = Object.freeze({
  include: Object.freeze([]),
  exclude: Object.freeze([]),
  prerelease: false,
});

/** Checks the drafts against each other and freezes the rules. @throws ConfigError */
export function assembleRules(drafts: readonly RuleDraft[], options: AssembleOptions): Rules {
  const { origin, registryFor, platforms = [] } = options;
  for (const draft of drafts) checkDraft(draft, options);
  checkNames(drafts, origin);
  checkConflicts(drafts, origin);
  const rules = drafts.map((draft) => toRule(draft, platforms));
  return Object.freeze({ rules: deepFreeze(rules), registryFor });
}

/** The name of a rule that is given none; one that is cut short stays another than its neighbours'. */
export function defaultName(source: RuleSource, targets: readonly RuleTarget[]): string {
  const name = `${formatSource(source)} -> ${targets.map(formatTarget).join(', ')}`;
  if (name.length <= maxDefaultName) return name;
  const mark = `… #${createHash('sha256').update(name).digest('hex').slice(0, 12)}`;
  return name.slice(0, maxDefaultName - mark.length) + mark;
}

function toRule(draft: RuleDraft, platforms: readonly PlatformPattern[]): Rule {
  const { source, tags, referrers, prune, overwrite } = draft;
  return {
    name: nameOf(draft),
    source,
    targets: draft.targets.map(({ target }) => target),
    tags,
    platforms: draft.platforms.length > 0 ? draft.platforms : platforms,
    referrers,
    prune,
    overwrite,
  };
}

function nameOf({ name, source, targets }: RuleDraft): string {
  return (
    name ??
    defaultName(
      source,
      targets.map(({ target }) => target),
    )
  );
}

function checkDraft(draft: RuleDraft, { origin, registryFor }: AssembleOptions): void {
  const { source, sourcePath, tags, tagsPath } = draft;
  const isHub = registryFor(source, 'source').kind === 'dockerhub';
  if (!isHub && isNamespace(source)) {
    throw origin.mistake(
      sourcePath,
      'Only Docker Hub lists the repositories of a namespace: name each repository.',
    );
  }
  if (isHub && /\/.*\/\*$/.test(source.path)) {
    throw origin.mistake(sourcePath, 'A namespace of Docker Hub has one part: write docker.io/namespace/*.');
  }
  const timed = (['pushedWithin', 'minimumAge'] as const).find((key) => tags[key] !== undefined);
  if (!isHub && timed !== undefined) {
    throw origin.mistake(
      [...tagsPath, timed],
      `Only Docker Hub tells when a tag was pushed: leave out ${timed}.`,
    );
  }
  checkTargets(draft, origin);
}

function checkTargets({ source, targets }: RuleDraft, origin: Origin): void {
  const seen = new Set<string>();
  for (const { target, path } of targets) {
    const repository = formatRepository(target);
    if (repository === formatRepository(source) && !isOtherTags(source, target)) {
      throw origin.mistake(path, `Source and target are the same repository, ${repository}.`);
    }
    const name = formatTarget(target);
    if (seen.has(name)) throw origin.mistake(path, `The target ${name} is there twice.`);
    seen.add(name);
  }
}

/** Within one repository tags get other names, none of which is a source. */
function isOtherTags({ selector }: RuleSource, { tags }: RuleTarget): boolean {
  return selector.kind === 'tags' && tags?.some((tag) => selector.tags.includes(tag)) === false;
}

function checkNames(drafts: readonly RuleDraft[], origin: Origin): void {
  const paths = new Map<string, Path>();
  for (const draft of drafts) {
    const name = nameOf(draft);
    const other = paths.get(name);
    if (other !== undefined) {
      const path = draft.name === undefined ? draft.path : [...draft.path, 'name'];
      const remedy = draft.name === undefined ? ': give one of them a name of its own' : '';
      throw origin.mistake(
        path,
        `The name ${JSON.stringify(name)} belongs to the rule in line ${origin.lineOf(other)} too${remedy}.`,
      );
    }
    paths.set(name, draft.path);
  }
}

function checkConflicts(drafts: readonly RuleDraft[], origin: Origin): void {
  const conflict = findConflict(drafts);
  if (conflict === undefined) return;
  const { tag, first, second } = conflict;
  const where = (path: Path) => {
    const line = origin.lineOf(path);
    return line === undefined ? '' : ` (line ${line})`;
  };
  throw origin.mistake(
    second.path,
    `The target tag ${tag} has two sources: ${first.source}${where(first.path)} and ${second.source}${where(second.path)}.`,
    'ERR_TARGET_CONFLICT',
  );
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    for (const member of Object.values(value)) deepFreeze(member);
    Object.freeze(value);
  }
  return value;
}
