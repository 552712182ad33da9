import { describe, expect, test } from 'vitest';
import {
  exitCodeOfError,
  exitCodeOfPlan,
  exitCodeOfSync,
  exitCodeOfVerify,
} from '../../../lib/cli/exit-code.ts';
import { ConfigError, HubferryError } from '../../../lib/errors.ts';
import type { PlanAction, SyncOutcome, VerifyFinding } from '../../../lib/sync/runs/report.ts';
import { digestA, digestB, lineOf, planReport, syncReport, verifyReport } from './reports.ts';

const differs = { digest: digestA, targetDigest: digestB };
const same = { digest: digestA };
const refused = { error: { code: 'ERR_LOCKED', message: 'The repository takes no new tags.' } } as const;

describe('sync', () => {
  test.each<[SyncOutcome, object, number]>([
    ['copied', same, 0],
    ['unchanged', same, 0],
    ['deleted', {}, 0],
    ['skipped', differs, 0],
    ['superseded', same, 0],
    ['deferred', same, 1],
    ['locked', same, 0],
    ['locked', differs, 1],
    ['locked', refused, 1],
    ['failed', {}, 1],
  ])('a line %s %j ends with the right status', (outcome, fields, exitCode) => {
    expect(exitCodeOfSync(syncReport([lineOf('unchanged'), lineOf(outcome, fields)]))).toBe(exitCode);
  });
  test('no tag at all is no failure', () => {
    expect(exitCodeOfSync(syncReport([]))).toBe(0);
  });
  test('an interrupt counts more than a failure', () => {
    expect(exitCodeOfSync(syncReport([lineOf('failed')], { interrupted: true }))).toBe(130);
  });
});

describe('plan', () => {
  test.each<[PlanAction, object, number, number]>([
    ['copy', same, 0, 1],
    ['delete', {}, 0, 1],
    ['unchanged', same, 0, 0],
    ['skip', differs, 0, 0],
    ['locked', same, 0, 0],
    ['locked', differs, 1, 1],
    ['failed', {}, 1, 1],
  ])('a line %s %j ends with %d, and %d with --exit-code', (outcome, fields, without, with_) => {
    const report = planReport([lineOf(outcome, fields)]);
    expect(exitCodeOfPlan(report, false)).toBe(without);
    expect(exitCodeOfPlan(report, true)).toBe(with_);
  });
});

describe('verify', () => {
  test.each<[VerifyFinding, number]>([
    ['same', 0],
    ['moved', 1],
    ['missing', 1],
    ['incomplete', 1],
    ['failed', 1],
  ])('a line %s ends with %d', (outcome, exitCode) => {
    expect(exitCodeOfVerify(verifyReport([lineOf(outcome)]), () => false)).toBe(exitCode);
  });
  test('an extra tag counts only where its rule prunes', () => {
    const report = verifyReport([lineOf('extra', { rule: 'kept' }), lineOf('same', { rule: 'pruned' })]);
    expect(exitCodeOfVerify(report, (rule) => rule === 'pruned')).toBe(0);
    expect(exitCodeOfVerify(report, (rule) => rule === 'kept')).toBe(1);
  });
});

test.each([
  [new ConfigError('ERR_CONFIG', 'no'), 2],
  [new ConfigError('ERR_USAGE', 'no'), 2],
  [new HubferryError('ERR_STORAGE', 'no'), 1],
  [new HubferryError('ERR_INTERRUPTED', 'no'), 130],
  [new Error('no'), 1],
])('%o ends with %d', (error, exitCode) => {
  expect(exitCodeOfError(error)).toBe(exitCode);
});
