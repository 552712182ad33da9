import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { pushesSchema, statusSchema } from '../../../lib/sync/runs/status.ts';

const readme = readFileSync(path.join(import.meta.dirname, '../../../README.md'), 'utf8');
const section = readme.slice(readme.indexOf('`GET /api/status` answers'), readme.indexOf('| app setting |'));

/** Every key that a schema has, at any depth. */
function keysOf(schema: unknown): string[] {
  if (schema === null || typeof schema !== 'object') return [];
  const { properties = {} } = schema as { properties?: Record<string, unknown> };
  return [...Object.keys(properties), ...Object.values(schema).flatMap(keysOf)];
}

describe('the description of the status', () => {
  it.each([
    ['status', statusSchema],
    ['report', pushesSchema],
  ])('in the README names every key of a %s', (_, schema) => {
    const keys = [...new Set(keysOf(z.toJSONSchema(schema)))].filter((key) => key !== 'type');
    expect(keys.length).toBeGreaterThan(20);
    expect(keys.filter((key) => !new RegExp(`\`(\\w+(\\[\\])?\\.)*${key}(\\[\\])?\``).test(section))).toEqual(
      [],
    );
  });
});
