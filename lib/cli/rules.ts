import { createReadStream } from 'node:fs';
import { ruleFromArguments } from '../config/arguments.ts';
import type { ConfigText } from '../config/document.ts';
import { readImageSyncer } from '../config/image-syncer.ts';
import type { Rules } from '../config/model.ts';
import { readRules } from '../config/rules.ts';
import type { Environment } from '../config/variables.ts';
import { ConfigError, HubferryError } from '../errors.ts';
import type { RulesOptions } from './arguments.ts';
import { reasonOf } from './file-error.ts';

const defaultFile = 'sync.yaml';

/** The rules that the command line means, from SOURCE TARGET or files. @throws ConfigError */
export async function loadRules(options: RulesOptions, env: Environment): Promise<Rules> {
  const { pair, config, images, auth, platforms } = options;
  const scope = { env, variables: 'all', platforms } as const;
  if (pair !== undefined) {
    const { source, target, ...credentials } = pair;
    return ruleFromArguments(source, target, { ...scope, ...credentials, config: await readIfNamed(config) });
  }
  if (images !== undefined) {
    const files = { images: await readConfigFile(images), auth: await readIfNamed(auth) };
    return readImageSyncer(files, scope);
  }
  const { text, file } = config === undefined ? await readDefaultFile() : await readConfigFile(config);
  return readRules(text, { ...scope, file });
}

/** For `status`, which looks at runs alone. */
export const noRules: Rules = {
  rules: [],
  registryFor: () => {
    throw new HubferryError('ERR_INTERNAL', 'No registry is known without rules.');
  },
};

async function readIfNamed(file: string | undefined): Promise<ConfigText | undefined> {
  return file === undefined ? undefined : readConfigFile(file);
}

async function readDefaultFile(): Promise<ConfigText> {
  try {
    return await readConfigFile(defaultFile);
  } catch (error) {
    if (!isAbsence(error)) throw error;
    const message = `There is no ${defaultFile} here: name SOURCE TARGET, --config FILE or --images FILE.`;
    throw new ConfigError('ERR_USAGE', message);
  }
}

/** More than the reader of documents takes, which tells that a file is too large. */
const mostBytes = 4 * 1024 * 1024;

/** Reads a text in UTF-8, from a file or a pipe. @throws ERR_CONFIG */
export async function readConfigFile(file: string): Promise<ConfigText> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  try {
    let text = '';
    for await (const chunk of createReadStream(file, { end: mostBytes - 1 })) {
      text += decoder.decode(chunk, { stream: true });
    }
    return { text: text + decoder.decode(), file };
  } catch (cause) {
    const reason = cause instanceof TypeError ? 'it is not UTF-8' : reasonOf(cause);
    throw new ConfigError('ERR_CONFIG', `The file cannot be read: ${reason}.`, { file }, { cause });
  }
}

function isAbsence(error: unknown): boolean {
  return error instanceof ConfigError && reasonOf(error.cause) === 'ENOENT';
}
