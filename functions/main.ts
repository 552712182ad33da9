/** The entry point of the published app: every function, one file each. */
import './schedule.ts';
import './verify.ts';
import './release.ts';
import './webhook.ts';
import './sync.ts';
import './plan.ts';
import './push.ts';
import './copy.ts';
import './poison.ts';
import './status.ts';
import './control.ts';
import './health.ts';
import './dashboard.ts';
