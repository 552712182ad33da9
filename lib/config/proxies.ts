import { ConfigError } from '../errors.ts';
import type { Environment } from './variables.ts';

const variables = ['http_proxy', 'HTTP_PROXY', 'https_proxy', 'HTTPS_PROXY'];

/** Every request would fail with a proxy that is none. @throws ConfigError ERR_SETTING, which never shows the value: it may hold a password */
export function checkProxies(env: Environment): void {
  for (const path of variables) {
    const value = env[path];
    if (!value || (URL.canParse(value) && /^https?:$/.test(new URL(value).protocol))) continue;
    throw new ConfigError('ERR_SETTING', 'This must be a URL such as http://proxy.example.org:3128.', {
      path,
    });
  }
}
