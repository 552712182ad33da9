/** Reads a rules file, in its own form or in one of image-syncer's. */
import { assembleRules } from './assemble.ts';
import { readDocument } from './document.ts';
import { imageSyncerForm, refuseImageSyncer, rulesOfImageSyncer } from './image-syncer.ts';
import type { PlatformPattern, Rules } from './model.ts';
import { readSyncFile } from './sync-file.ts';
import type { VariableScope } from './variables.ts';

export interface ReadOptions extends VariableScope {
  /** What the text is called in messages. */
  readonly file?: string | undefined;
  /** For rules that have none of their own (`--os`, `--arch`). */
  readonly platforms?: readonly PlatformPattern[] | undefined;
}

/** @throws ConfigError with file, line and path of what is wrong, before any request is made */
export function readRules(text: string, options: ReadOptions): Rules {
  const document = readDocument({ text, file: options.file });
  const form = imageSyncerForm(document.value);
  if (form !== undefined) return rulesOfImageSyncer(form, document, options);
  refuseImageSyncer(document);
  const { drafts, registryFor } = readSyncFile(document, options);
  return assembleRules(drafts, { origin: document, registryFor, platforms: options.platforms });
}
