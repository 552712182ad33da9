import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createCore } from '../../lib/app.ts';
import { Clients } from '../../lib/clients.ts';
import { readRules } from '../../lib/config/rules.ts';
import { createHostGate } from '../../lib/registry/gate.ts';
import { openFolderStores } from '../../lib/storage/folder.ts';
import { defaultLimits } from '../../lib/sync/copy/limits.ts';
import { Tally } from '../../lib/sync/runs/tally.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'hubferry-core-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function openTarget(repository: string, repositoryPrefixes: readonly string[]) {
  const text = `rules: [{ source: "127.0.0.1:1/a/b", target: "127.0.0.1:2/${repository}" }]`;
  const rules = readRules(text, { env: {}, variables: 'all' });
  const identity = () => {
    throw new Error('No identity is needed here');
  };
  const gate = createHostGate();
  const clients = new Clients({ env: {}, gate, retries: 0, maxWaitMs: 0, blobs: 1, identity });
  const stores = openFolderStores(folder);
  const core = createCore({
    rules,
    stores,
    clients,
    limits: defaultLimits,

    repositoryPrefixes,
  });
  const [rule] = rules.rules;
  const [target] = rule?.targets ?? [];
  if (rule === undefined || target === undefined) throw new Error('There is no rule');
  return core.open(rule, target, new Tally());
}

describe('a target repository', () => {
  it('outside of the prefixes is refused with a code and the prefixes', () => {
    expect(() => openTarget('other/app', ['mirror/'])).toThrow(
      expect.objectContaining({ code: 'ERR_PREFIX', message: expect.stringContaining('mirror/') }),
    );
  });

  it('below one of the prefixes, or where there are none, is opened', () => {
    expect(openTarget('mirror/app', ['mirror/']).target.name).toBe('127.0.0.1:2/mirror/app');
    expect(openTarget('other/app', []).target.name).toBe('127.0.0.1:2/other/app');
  });
});
