/** What a run tells while it works; one listener for progress, logs and telemetry. */
import type { Line } from './report.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export type SyncEvent =
  /** A rule's listing stands at so many tags. */
  | { readonly type: 'listing'; readonly rule: string; readonly tags: number }
  /** So many lines of a rule are to be worked on. */
  | { readonly type: 'planned'; readonly rule: string; readonly lines: number }
  | {
      readonly type: 'line';
      readonly line: Line;
      /** On whose behalf: `run`, `operation`, and for a push how long it took. */
      readonly fields?: EventFields;
    }
  | {
      readonly type: 'blobStarted';
      /** Names this transfer among the events. */
      readonly id: string;
      readonly target: string;
      readonly digest: string;
      readonly size: number;
      /** Bytes that the target had already. */
      readonly offset: number;
    }
  /** The target has confirmed `offset` bytes. */
  | { readonly type: 'blobProgress'; readonly id: string; readonly offset: number }
  | { readonly type: 'blobEnded'; readonly id: string; readonly how: 'copied' | 'failed' | 'stopped' }
  /** Nothing goes to this host before `until` (milliseconds since the epoch). */
  | { readonly type: 'waiting'; readonly host: string; readonly until: number }
  /** One decision or fact, with its fields; never a secret. */
  | {
      readonly type: 'log';
      readonly level: LogLevel;
      readonly message: string;
      readonly fields?: EventFields;
    };

export type EventFields = Readonly<Record<string, string | number | boolean | undefined>>;

export type OnEvent = (event: SyncEvent) => void;
