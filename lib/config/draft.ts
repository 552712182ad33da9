/** A rule as it was read, before it is checked against the others. */
import type { Path } from './document.ts';
import type { PlatformPattern, RuleSource, RuleTarget, TagFilter } from './model.ts';

export interface TargetDraft {
  readonly target: RuleTarget;
  readonly path: Path;
}

/** A rule with the places of its parts. */
export interface RuleDraft {
  readonly path: Path;
  readonly name?: string | undefined;
  readonly source: RuleSource;
  readonly sourcePath: Path;
  readonly targets: readonly TargetDraft[];
  readonly tags: TagFilter;
  readonly tagsPath: Path;
  readonly platforms: readonly PlatformPattern[];
  readonly referrers: boolean;
  readonly prune: boolean;
  readonly overwrite: boolean;
}
