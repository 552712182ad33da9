import { access, readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { errorCodes } from '../../../lib/errors.ts';
import { containers } from '../../../lib/storage/ports.ts';

const infra = new URL('../../../infra/', import.meta.url);
const guide = await readFile(new URL('README.md', infra), 'utf8');
const template = await readFile(new URL('main.bicep', infra), 'utf8');

const named = (keyword: string) =>
  [...template.matchAll(new RegExp(`^${keyword} (\\w+)`, 'gm'))].map(([, name = '']) => name);

describe("the operator's guide", () => {
  it('names every parameter and output of the template', () => {
    const names = [...named('param'), ...named('output')];
    expect(names.length).toBeGreaterThan(40);
    expect(names.filter((name) => !guide.includes(`\`${name}\``))).toEqual([]);
  });

  it('asks for no output that the template lacks', () => {
    const asked = [...guide.matchAll(/\$\(output (\w+)\)/g)].map(([, name = '']) => name);
    expect(asked.length).toBeGreaterThan(4);
    expect(asked.filter((name) => !named('output').includes(name))).toEqual([]);
  });

  it('asks for the outputs by the name under which it, and the workflow, deploys', async () => {
    const workflow = await readFile(new URL('../.github/workflows/deploy.yml', infra), 'utf8');
    const deployments = (text: string) => [
      ...text.matchAll(/az deployment sub (create|show) --name (\S+)/g).map(([, verb, name]) => [verb, name]),
    ];
    const name = '"hubferry-$AZURE_ENV_NAME"';
    expect(deployments(workflow)).toEqual([['create', name]]);
    const verbs = deployments(guide).map(([verb, named]) => (named === name ? verb : named));
    expect(new Set(verbs)).toEqual(new Set(['create', 'show']));
  });

  it('names every variable and secret that the deployment takes from GitHub', async () => {
    const workflow = await readFile(new URL('../.github/workflows/deploy.yml', infra), 'utf8');
    const taken = [...workflow.matchAll(/\$\{\{ (?:vars|secrets)\.(\w+) \}\}/g)].map(([, name = '']) => name);
    const section = guide.split('\n## By a workflow\n')[1]?.split('\n## ')[0] ?? '';
    expect(taken.length).toBeGreaterThan(7);
    expect(taken.filter((name) => !section.includes(`\`${name}\``))).toEqual([]);
  });

  it('asks for nothing that only a newer curl knows', () => {
    expect(guide).toContain('curl ');
    expect(guide).not.toContain("--json '");
  });

  it('makes every group that its commands need', () => {
    const of = (pattern: RegExp) => new Set([...guide.matchAll(pattern)].map(([, group = '']) => group));
    const needed = of(/--resource-group ([\w"$-]+)/g);
    const made = of(/az group create --name ([\w"$-]+)/g);
    // That of an existing registry, and those that the deployment makes.
    const there = new Set(['rg-registry', '"$GROUP"']);
    expect([...needed.difference(there)]).toEqual([...made.difference(there)]);
  });

  it('makes the containers of a state that the command line keeps in an account', () => {
    const made = /^for container in (.+); do\n +az storage container-rm create /m.exec(guide)?.[1] ?? '';
    expect(made.split(' ').sort()).toEqual(containers.filter((name) => name !== 'config').sort());
  });

  it('speaks of no error code that does not exist', () => {
    const codes = new Set([...guide.matchAll(/\bERR_[A-Z0-9_]+/g)].map(([code]) => code));
    expect(codes.size).toBeGreaterThan(8);
    expect([...codes].filter((code) => !(code in errorCodes))).toEqual([]);
  });

  it('links to sections and files that are there', async () => {
    const targets = [...guide.matchAll(/\]\(([^)]+)\)/g)].map(([, target = '']) => target);
    const sections = [...guide.matchAll(/^## (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replace(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    );
    for (const target of targets) {
      if (target.startsWith('#')) expect(sections).toContain(target.slice(1));
      else await expect(access(new URL(target, infra)), target).resolves.toBeUndefined();
    }
    expect(targets.length).toBeGreaterThan(20);
  });
});
