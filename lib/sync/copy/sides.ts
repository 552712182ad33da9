/** The two repositories of a rule's line. */
import type { Source, Target } from '../../oci/roles.ts';
import type { Puller } from './allowance.ts';

export interface Sides {
  readonly source: Source;
  readonly target: Target;
  /** Whose pulls are spent at the source. */
  readonly puller: Puller;
}
