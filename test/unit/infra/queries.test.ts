import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';

const infra = new URL('../../../infra/', import.meta.url);
const require = createRequire(import.meta.url);

/** The part of Kusto's own parser that is used here; it is a script that leaves a global. */
interface Kusto {
  readonly Language: {
    readonly GlobalState: { readonly Default: { WithDatabase(database: object): object } };
    readonly KustoCode: { ParseAndAnalyze(text: string, globals: object): Analysis };
    readonly Symbols: {
      readonly TableSymbol: { From(columns: string): { WithName(name: string): object } };
      readonly DatabaseSymbol: { readonly $ctor1: new (name: string, tables: readonly object[]) => object };
    };
  };
}
interface Analysis {
  GetDiagnostics(): { readonly Count: number; getItem(index: number): { readonly Message: string } };
}
const kustoSchema = z.custom<Kusto>(
  (value) => typeof value === 'object' && value !== null && 'Language' in value,
);

const tables: Readonly<Record<string, string>> = {
  AppTraces: 'TimeGenerated:datetime,Message:string,SeverityLevel:int,OperationId:string,Properties:dynamic',
  AppExceptions: 'TimeGenerated:datetime,ProblemId:string,ExceptionType:string,OuterMessage:string',
  ContainerRegistryLoginEvents:
    'TimeGenerated:datetime,Identity:string,CallerIpAddress:string,OperationName:string,ResultDescription:string',
  ContainerRegistryRepositoryEvents:
    'TimeGenerated:datetime,Identity:string,CallerIpAddress:string,OperationName:string,Repository:string,Tag:string',
  AzureMetrics:
    'TimeGenerated:datetime,MetricName:string,Average:real,Maximum:real,Resource:string,ResourceProvider:string',
};

async function readQueries(): Promise<readonly (readonly [string, string])[]> {
  const files = await Promise.all(
    ['queries', 'alerts'].map(async (folder) => {
      const names = await readdir(new URL(`${folder}/`, infra));
      return names.map((name) => `${folder}/${name}`);
    }),
  );
  return Promise.all(
    files.flat().map(async (file) => [file, await readFile(new URL(file, infra), 'utf8')] as const),
  );
}

const queries = await readQueries();
const parser = '@kusto/language-service-next';
describe("Kusto's own parser", () => {
  let mistakes: (query: string) => readonly string[];
  beforeAll(() => {
    require(`${parser}/bridge.min.js`);
    require(`${parser}/Kusto.Language.Bridge.min.js`);
    const { Language } = kustoSchema.parse(Reflect.get(globalThis, 'Kusto'));
    const { TableSymbol, DatabaseSymbol } = Language.Symbols;
    const symbols = Object.entries(tables).map(([name, columns]) =>
      TableSymbol.From(`(${columns})`).WithName(name),
    );
    const globals = Language.GlobalState.Default.WithDatabase(
      new DatabaseSymbol.$ctor1('workspace', symbols),
    );
    mistakes = (query) => {
      const found = Language.KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics();
      return Array.from({ length: found.Count }, (_, index) => found.getItem(index).Message);
    };
  });

  it.each(queries)('finds nothing wrong in %s', (_, query) => {
    expect(mistakes(query)).toEqual([]);
  });

  it('finds a column that no table has', () => {
    expect(mistakes('AppTraces | where Massage == "x"')).not.toEqual([]);
  });
});

describe('the queries', () => {
  it('ask what an operator asks, and watch for seven troubles', () => {
    const of = (folder: string) => queries.filter(([file]) => file.startsWith(folder));
    expect([of('queries/').length, of('alerts/').length]).toEqual([11, 7]);
    for (const [file, query] of queries) expect(query, file).toMatch(/^\/\/ .+[.?:]\n/);
  });

  it('find a tag by any part of its name, also within a word', async () => {
    const history = queries.find(([file]) => file.endsWith('/tag-history.kql'))?.[1] ?? '';
    const comparisons = [...history.matchAll(/(\S+) wanted\b/g)].map(([, operator]) => operator);
    expect(comparisons).toEqual(['let', 'contains', 'contains']);
  });

  it('read only messages and fields that the guide documents', async () => {
    const guide = await readFile(new URL('README.md', infra), 'utf8');
    const section = guide.split('\n## Telemetry fields\n')[1]?.split('\n## ')[0] ?? '';
    const documented = new Set([...section.matchAll(/`([\w ]+)`/g)].map(([, name]) => name));
    const text = queries.map(([, query]) => query).join('\n');
    const fields = [...text.matchAll(/entry\.(\w+)|parse_json\(Message\)\.(\w+)/g)].map(([, a, b]) => a ?? b);
    const messages = [...text.matchAll(/\.message\) (?:==|in) \(?("[^)\n]+")/g)]
      .flatMap(([, list = '']) => list.split(','))
      .map((quoted) => quoted.trim().split('"')[1]);
    expect(fields.length).toBeGreaterThan(40);
    expect(messages.length).toBeGreaterThan(10);
    expect([...new Set([...fields, ...messages])].filter((name) => !documented.has(name))).toEqual([]);
  });
});
