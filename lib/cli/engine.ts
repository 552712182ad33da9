/** What the command line asks of the product; `app.ts` fills it. */
import type { Rules } from '../config/model.ts';
import type { Environment } from '../config/variables.ts';
import type { ErrorCode } from '../errors.ts';
import type { OnEvent } from '../sync/runs/events.ts';
import type { AnyReport, PlanAction, Report, SyncOutcome, VerifyFinding } from '../sync/runs/report.ts';
import type { RunSummary } from '../sync/runs/runs.ts';
import type { StateLocation } from './state.ts';

export interface EngineSetup {
  /** Without rules for `status`, which needs none. */
  readonly rules: Rules;
  readonly state: StateLocation;
  readonly options: EngineOptions;
  readonly env: Environment;
  readonly onEvent: OnEvent;
  readonly signal: AbortSignal;
}

export interface EngineOptions {
  /** Blobs in flight. */
  readonly proc: number;
  /** Attempts after the first, per failing request or blob. */
  readonly retries: number;
}

export interface CompareOptions {
  readonly force: boolean;
  readonly allowMassDelete: boolean;
  /** Milliseconds to wait for a rate limit before tags are deferred. */
  readonly wait: number;
}

/** Opens the engine; it opens no connection before it is asked for something. */
export type OpenEngine = (setup: EngineSetup) => Promise<Engine>;

export interface Engine {
  plan(options: CompareOptions): Promise<Report<PlanAction>>;
  /** After an interrupt it saves its checkpoints and answers with what ended; `run.interrupted` is true. */
  sync(options: CompareOptions): Promise<Report<SyncOutcome>>;
  verify(options: CompareOptions): Promise<Report<VerifyFinding>>;
  /** The last runs, the newest first. */
  runs(): Promise<readonly RunSummary[]>;
  run(id: string): Promise<AnyReport | undefined>;
  doctor(): Promise<readonly Finding[]>;
  close(): Promise<void>;
}

export interface Finding {
  /** What was checked, such as `login docker.io`. */
  readonly check: string;
  readonly status: 'ok' | 'warning' | 'failed';
  readonly message: string;
  readonly code?: ErrorCode;
  /** What a person does about it; where it is absent, the code's. */
  readonly remedy?: string;
}

export type { RunSummary };
