/** Platforms as people write them: one that is misspelt would leave out what it means without a word. */
import { HubferryError } from '../errors.ts';
import { formatPlatformPattern, type PlatformPattern, parsePlatformPattern } from '../oci/platform.ts';
import { nearest } from './nearest.ts';

/** Indexes name platforms as Go does (image-spec v1.1 image-index.md), with names that Go does not know yet. */
const systems =
  'aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris unknown wasi wasip1 windows zos';
const architectures =
  '386 amd64 arm arm64 arm64be armbe loong64 mips mips64 mips64le mipsle ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 unknown wasm';

/** What other places call an architecture. */
const otherNames = new Map([
  ['x64', 'amd64'],
  ['x86', '386'],
  ['arm64v8', 'arm64/v8'],
  ...[5, 6, 7].flatMap((version) => [
    [`armv${version}`, `arm/v${version}`] as const,
    [`arm32v${version}`, `arm/v${version}`] as const,
  ]),
]);

/** @throws ERR_CONFIG, also for a name that is nearly a known one */
export function readPlatform(text: string): PlatformPattern {
  const pattern = parsePlatformPattern(text);
  const os = meant(pattern.os, systems);
  const architecture =
    otherNames.get(pattern.architecture ?? '') ?? meant(pattern.architecture, architectures);
  const right = joined(pattern) ?? { ...pattern, ...(os && { os }), ...(architecture && { architecture }) };
  if (formatPlatformPattern(right) === formatPlatformPattern(pattern)) return pattern;
  throw new HubferryError(
    'ERR_CONFIG',
    `${JSON.stringify(text)} is no known platform: did you mean ${formatPlatformPattern(right)}?`,
  );
}

/** What `linux-amd64` is to be. */
function joined({ os = '' }: PlatformPattern): PlatformPattern | undefined {
  const [system = '', architecture = ''] = os.split(/[-_]/);
  const isKnown = systems.split(' ').includes(system) && architectures.split(' ').includes(architecture);
  return isKnown ? { os: system, architecture } : undefined;
}

/** `undefined` for a known name, and for one that is not like any. */
function meant(name: string | undefined, names: string): string | undefined {
  const known = names.split(' ');
  return name === undefined || known.includes(name) ? undefined : nearest(name, known);
}
