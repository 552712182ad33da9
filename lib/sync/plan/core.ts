/** What plans and copies of one process are made with. */

import type { Rule, RuleTarget } from '../../config/model.ts';
import type { Admission, Puller } from '../copy/allowance.ts';
import type { BlobCopier } from '../copy/blob.ts';
import type { Copier } from '../copy/copier.ts';
import type { Limits } from '../copy/limits.ts';
import type { Sides } from '../copy/sides.ts';
import type { Tally } from '../runs/tally.ts';
import type { Planner } from './planner.ts';
import type { Expander } from './rivals.ts';
import type { Verifier } from './verifier.ts';

export interface Core {
  readonly planner: Planner;
  readonly copier: Copier;
  readonly verifier: Verifier;
  readonly blobs: BlobCopier;
  readonly limits: Limits;
  /** The two repositories of a rule's line, counted on a tally. */
  open(rule: Rule, target: RuleTarget, tally: Tally): Sides;
  /** The tags of a target that came from a rule's source, as far as the state knows. */
  readonly mirrored: (rule: Rule, target: RuleTarget) => Promise<ReadonlySet<string>>;
  /** What one namespace rule stands for; a rule for one repository is itself. */
  readonly expand: Expander;
  /** Called before each billed pull, with the pulls to leave to others; keeps a short wait. @throws ERR_RATE_LIMITED for a longer one */
  admitPull(puller: Puller, reserve: number, signal: AbortSignal): Promise<Admission>;
}
