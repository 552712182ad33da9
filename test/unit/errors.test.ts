import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { errorCodes, HubferryError, redact, redactUrl, summarize } from '../../lib/errors.ts';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

describe('error codes', () => {
  it('are the table of the README, in the same order and words', () => {
    const rows = [...readme.matchAll(/^\| `ERR_\w+` \| .*$/gm)].map(([row]) => row);
    const expected = Object.entries(errorCodes).map(
      ([code, { meaning, remedy }]) => `| \`${code}\` | ${meaning} | ${remedy} |`,
    );
    expect(rows).toEqual(expected);
  });

  it('stand in the README only where they exist', () => {
    for (const [, code] of readme.matchAll(/`(ERR_\w+)`/g)) expect(Object.keys(errorCodes)).toContain(code);
  });
});

describe('what people see of an error', () => {
  it('has no token, password or signature', () => {
    const message =
      'GET https://u:secret@host/x?sig=abcdef failed with Bearer abcdefghijk and password=hunter2';
    expect(redact(message)).not.toMatch(/secret|abcdef|hunter2/);
    expect(redactUrl('https://u:p@host/path?code=1#x')).toBe('https://host/path');
  });

  it('is one line with a code', () => {
    expect(summarize(new HubferryError('ERR_SERVER', 'one\ntwo'))).toEqual({
      code: 'ERR_SERVER',
      message: 'one two',
    });
    expect(summarize(new TypeError('x')).code).toBe('ERR_INTERNAL');
  });
});
