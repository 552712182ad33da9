import { type Conversion, convertToSyncYaml } from '../config/convert.ts';
import { readDocument } from '../config/document.ts';
import { imageSyncerForm } from '../config/image-syncer.ts';
import type { Environment } from '../config/variables.ts';
import { readConfigFile } from './rules.ts';

export interface ConvertFiles {
  readonly images: string;
  readonly auth?: string | undefined;
}

/** The `sync.yaml` that means the same as image-syncer's files, its older `config.json` included. @throws ConfigError */
export async function convertFiles(files: ConvertFiles, env: Environment): Promise<Conversion> {
  const scope = { env, variables: 'all' } as const;
  const images = await readConfigFile(files.images);
  if (files.auth !== undefined) {
    return convertToSyncYaml({ images, auth: await readConfigFile(files.auth) }, scope);
  }
  const isWhole = imageSyncerForm(readDocument(images).value) === 'config';
  return convertToSyncYaml(isWhole ? { config: images } : { images }, scope);
}
