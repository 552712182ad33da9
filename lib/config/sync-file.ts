/** `sync.yaml`, from its form to drafts of rules. */
import { compilePattern, parsePattern } from '../sync/select/pattern.ts';
import { parseRange } from '../sync/select/version.ts';
import type { ConfigDocument, Path } from './document.ts';
import type { RuleDraft, TargetDraft } from './draft.ts';
import { parseSource, parseTarget } from './forms.ts';
import { checkForm } from './mistakes.ts';
import type { RuleSource, TagFilter, TagPattern } from './model.ts';
import { readAt } from './origin.ts';
import { readPlatform } from './platforms.ts';
import { type RegistryDraft, type RegistryEntry, type RegistryLookup, readRegistries } from './registries.ts';
import {
  type RegistryForm,
  type RuleForm,
  registriesFileSchema,
  type SyncFile,
  syncFileSchema,
} from './schema.ts';
import { expandVariables, type VariableScope } from './variables.ts';

export interface SyncFileContents {
  readonly drafts: readonly RuleDraft[];
  readonly registryFor: RegistryLookup;
}

/** @throws ConfigError */
export function readSyncFile(document: ConfigDocument, scope: VariableScope): SyncFileContents {
  const file = checkForm(document, syncFileSchema);
  return {
    registryFor: readRegistryForms(document, file.registries, scope),
    drafts: file.rules.map((form, index) => draftOf(document, form, ['rules', index])),
  };
}

/** Reads `registries` alone; there may be no rules. @throws ConfigError */
export function readRegistriesOf(document: ConfigDocument, scope: VariableScope): RegistryLookup {
  return readRegistryForms(document, checkForm(document, registriesFileSchema).registries, scope);
}

function readRegistryForms(
  document: ConfigDocument,
  forms: SyncFile['registries'] = {},
  scope: VariableScope,
): RegistryLookup {
  const drafts = Object.entries(forms).map(([key, form]): RegistryDraft => {
    const path = ['registries', key];
    return { key, entry: expandEntry(document, form, path, scope), path };
  });
  return readRegistries(drafts, document);
}

function expandEntry(
  document: ConfigDocument,
  form: RegistryForm,
  path: Path,
  scope: VariableScope,
): RegistryEntry {
  const expand = (key: 'username' | 'password') => {
    const text = form[key];
    return text && readAt(document, [...path, key], () => expandVariables(text, scope));
  };
  return { ...form, username: expand('username'), password: expand('password') };
}

function draftOf(document: ConfigDocument, form: RuleForm, path: Path): RuleDraft {
  const sourcePath = [...path, 'source'];
  const tagsPath = [...path, 'tags'];
  const source = readAt(document, sourcePath, () => parseSource(form.source));
  if (source.selector.kind === 'digest' && form.tags !== undefined) {
    throw document.mistake(tagsPath, 'The source names a digest: there are no tags to choose from.');
  }
  const { name, platforms = [], referrers, prune, overwrite } = form;
  return {
    path,
    name,
    source,
    sourcePath,
    targets: readTargets(document, form.target, source, [...path, 'target']),
    tags: readFilter(document, form.tags ?? { prerelease: false }, tagsPath),
    tagsPath,
    platforms: readList(document, platforms, [...path, 'platforms'], readPlatform),
    referrers,
    prune,
    overwrite,
  };
}

function readTargets(
  document: ConfigDocument,
  texts: string | readonly string[],
  source: RuleSource,
  path: Path,
): readonly TargetDraft[] {
  const read = (text: string, at: Path): TargetDraft => ({
    target: readAt(document, at, () => parseTarget(text, source)),
    path: at,
  });
  return typeof texts === 'string'
    ? [read(texts, path)]
    : texts.map((text, index) => read(text, [...path, index]));
}

function readFilter(document: ConfigDocument, form: NonNullable<RuleForm['tags']>, path: Path): TagFilter {
  const { include = [], exclude = [], semver, prerelease, newest, pushedWithin, minimumAge } = form;
  if (semver !== undefined) readAt(document, [...path, 'semver'], () => parseRange(semver, prerelease));
  if (prerelease && semver === undefined) {
    throw document.mistake(
      [...path, 'prerelease'],
      'The key prerelease says something about semver, which is not there.',
    );
  }
  if (minimumAge !== undefined && pushedWithin !== undefined && minimumAge >= pushedWithin) {
    throw document.mistake(
      [...path, 'minimumAge'],
      'This is at least as long as pushedWithin: no tag is ever taken.',
    );
  }
  return {
    include: readList(document, include, [...path, 'include'], readPattern),
    exclude: readList(document, exclude, [...path, 'exclude'], readPattern),
    ...(semver !== undefined && { semver }),
    prerelease,
    ...(newest !== undefined && { newest }),
    ...(pushedWithin !== undefined && { pushedWithin }),
    ...(minimumAge !== undefined && { minimumAge }),
  };
}

function readPattern(text: string): TagPattern {
  const pattern = parsePattern(text);
  compilePattern(pattern);
  return pattern;
}

function readList<Value>(
  document: ConfigDocument,
  texts: readonly string[],
  path: Path,
  read: (text: string) => Value,
): readonly Value[] {
  return texts.map((text, index) => readAt(document, [...path, index], () => read(text)));
}
