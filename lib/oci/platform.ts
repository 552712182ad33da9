import { HubferryError } from '../errors.ts';
import type { Platform } from './descriptor.ts';

/** One member of a rule's `platforms`, such as `linux/arm64/v8`. What it leaves out may be anything. */
export interface PlatformPattern {
  readonly os?: string;
  /** `10.0.17763` also means `10.0.17763.5830`. */
  readonly osVersion?: string;
  readonly architecture?: string;
  /** Without one, every variant. */
  readonly variant?: string;
}

interface Cpu {
  readonly architecture: string;
  readonly variant: string | undefined;
}

const patternShape =
  /^(?<os>\*|[a-z0-9_-]+)(?:\((?<inParens>[\w.-]+)\)|:(?<afterColon>[\w.-]+))?(?:\/(?<architecture>\*|[a-z0-9_-]+)(?:[/:](?<variant>[a-z0-9.]+))?)?$/;

/** Names that machines give themselves, and the names that registries use (containerd `platforms/database.go`). */
const architectureAliases = new Map<string, Cpu>([
  ['x86_64', { architecture: 'amd64', variant: undefined }],
  ['x86-64', { architecture: 'amd64', variant: undefined }],
  ['aarch64', { architecture: 'arm64', variant: undefined }],
  ['i386', { architecture: '386', variant: undefined }],
  ['armhf', { architecture: 'arm', variant: 'v7' }],
  ['armel', { architecture: 'arm', variant: 'v6' }],
]);

const knownArchitectures = new Set([
  ...architectureAliases.keys(),
  ...['386', 'amd64', 'arm', 'arm64', 'loong64', 'mips64le', 'ppc64le', 'riscv64', 's390x'],
]);

/** What an architecture without variant means (image-spec v1.1 image-index.md "Platform Variants"; containerd for arm). */
const defaultVariants = new Map([
  ['amd64', 'v1'],
  ['arm', 'v7'],
  ['arm64', 'v8'],
]);

/**
 * Reads `linux`, `linux/amd64`, `linux/arm64/v8`, `windows(10.0.17763)/amd64` or `windows:10.0.17763`; `*` stands
 * for any operating system or architecture.
 * @throws ERR_CONFIG
 */
export function parsePlatformPattern(text: string): PlatformPattern {
  const parts = patternShape.exec(text.toLowerCase())?.groups;
  if (parts === undefined) {
    throw new HubferryError(
      'ERR_CONFIG',
      `${JSON.stringify(text.slice(0, 100))} is no platform: write os, os/architecture or os/architecture/variant, such as linux/arm64.`,
    );
  }
  const { os = '*', architecture = '*' } = parts;
  if (architecture === '*' && knownArchitectures.has(os)) {
    throw new HubferryError('ERR_CONFIG', `A platform begins with the operating system: write linux/${os}.`);
  }
  const osVersion = parts.inParens ?? parts.afterColon;
  const cpu = canonicalCpu(architecture, parts.variant);
  return {
    ...(os !== '*' && { os }),
    ...(osVersion !== undefined && { osVersion }),
    ...(architecture !== '*' && { architecture: cpu.architecture }),
    ...(cpu.variant !== undefined && { variant: cpu.variant }),
  };
}

/** Equal patterns give equal texts, which `parsePlatformPattern` reads back. */
export function formatPlatformPattern(pattern: PlatformPattern): string {
  const { os = '*', osVersion, architecture = '*', variant } = pattern;
  if (architecture === '*' && variant === undefined) return formatOs(os, osVersion);
  return [formatOs(os, osVersion), architecture, ...(variant ? [variant] : [])].join('/');
}

/** The platform as people write it: `linux/arm64/v8`, `windows(10.0.17763.5830)/amd64`. */
export function formatPlatform(platform: Platform): string {
  const { os, architecture, variant } = platform;
  return [formatOs(os, platform['os.version']), architecture, ...(variant ? [variant] : [])].join('/');
}

/** Whether one of the patterns takes the platform. No patterns take everything; no platform is taken by none of them. */
export function matchesPlatform(
  platform: Platform | undefined,
  patterns: readonly PlatformPattern[],
): boolean {
  if (patterns.length === 0) return true;
  return platform !== undefined && patterns.some((pattern) => matches(platform, pattern));
}

function matches(platform: Platform, pattern: PlatformPattern): boolean {
  const { architecture, variant } = canonicalCpu(platform.architecture, platform.variant);
  return (
    (pattern.os === undefined || pattern.os === platform.os.toLowerCase()) &&
    (pattern.osVersion === undefined || isVersionOf(pattern.osVersion, platform['os.version'])) &&
    (pattern.architecture === undefined || pattern.architecture === architecture) &&
    (pattern.variant === undefined || pattern.variant === (variant ?? defaultVariants.get(architecture)))
  );
}

/** Windows is published by build and revision; a rule names the build. */
function isVersionOf(wanted: string, version = ''): boolean {
  return `${version.toLowerCase()}.`.startsWith(`${wanted}.`);
}

function canonicalCpu(architecture: string, variant: string | undefined): Cpu {
  const lower = architecture.toLowerCase();
  const alias = architectureAliases.get(lower);
  // "7" is written for "v7" in some indexes.
  const written = variant?.toLowerCase().replace(/^(?=\d)/, 'v');
  return { architecture: alias?.architecture ?? lower, variant: written || alias?.variant };
}

function formatOs(os: string, version: string | undefined): string {
  return version ? `${os}(${version})` : os;
}
