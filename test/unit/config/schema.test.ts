import { describe, expect, it } from 'vitest';
import { rulesJsonSchema } from '../../../lib/config/schema.ts';

type Schema = Readonly<Record<string, unknown>>;

/** Every schema below this one, with where it is. */
function* walk(schema: Schema, path: string): Generator<[string, Schema]> {
  yield [path, schema];
  for (const [key, value] of Object.entries(schema)) {
    if (typeof value === 'object' && value !== null) yield* walk(value as Schema, `${path}/${key}`);
  }
}

describe('the JSON Schema for editors', () => {
  const schema = rulesJsonSchema();
  const all = [...walk(schema, '#')];
  const objects = all.filter(([, part]) => part.type === 'object' && part.properties !== undefined);

  it('knows no other keys, as the reader', () => {
    expect(objects).toHaveLength(4);
    for (const [, part] of objects) expect(part.additionalProperties).toBe(false);
  });

  it('describes every key', () => {
    for (const [path, part] of objects) {
      for (const [key, property] of Object.entries(part.properties as Record<string, Schema>)) {
        expect(property.description, `${path} ${key}`).toEqual(expect.stringMatching(/\.$/));
      }
    }
  });

  it('asks only for what has no default', () => {
    expect(objects.map(([, part]) => part.required)).toEqual([
      ['rules'],
      undefined,
      ['source', 'target'],
      undefined,
    ]);
  });

  it('is of a draft that editors know', () => {
    expect(schema).toMatchObject({
      $schema: 'http://json-schema.org/draft-07/schema#',
      title: 'hubferry rules file',
    });
  });

  it('bounds a size in bytes, and takes a URL in either case, as the reader', () => {
    const part = (key: string) =>
      JSON.stringify(all.filter(([path]) => path.endsWith(key)).map(([, it]) => it));
    expect(part('chunkSize')).toContain('"minimum":1024,"maximum":1073741824');
    expect(part('endpoint')).toContain('[Hh][Tt][Tt][Pp]');
  });

  it('takes durations and sizes as people write them', () => {
    const patterns = all.flatMap(([, part]) =>
      typeof part.pattern === 'string' ? [new RegExp(part.pattern, 'u')] : [],
    );
    expect(patterns.some((pattern) => pattern.test('30d') && !pattern.test('30'))).toBe(true);
    expect(patterns.some((pattern) => pattern.test('8MiB') && !pattern.test('8MB'))).toBe(true);
  });
});
