/** The Bicep compiler of one fixed version: fetched as a NuGet package by `dotnet`, where that is installed. */
import { execFile } from 'node:child_process';
import { access, chmod, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

export const bicepVersion = '0.49.2';
export const infraFolder = fileURLToPath(new URL('.', import.meta.url));
const cache = fileURLToPath(new URL('../node_modules/.cache/hubferry', import.meta.url));
const systems: Readonly<Record<string, string>> = { linux: 'linux', darwin: 'osx', win32: 'win' };

/** The compiler's path, or `undefined` on a machine that has neither `dotnet` nor a `bicep` of its own. */
export async function findBicep(): Promise<string | undefined> {
  const executable = process.platform === 'win32' ? 'bicep.exe' : 'bicep';
  const cached = join(cache, `bicep-${bicepVersion}`, executable);
  if (await exists(cached)) return cached;
  if (await answers('dotnet')) {
    await restore(cached, executable);
    return cached;
  }
  return (await answers('bicep')) ? 'bicep' : undefined;
}

/** Runs the compiler, and returns what it printed on standard output. A diagnostic is a failure, were it a warning. */
export async function bicep(
  compiler: string,
  args: readonly string[],
  folder: string = infraFolder,
): Promise<string> {
  const { stdout, stderr } = await runBicep(compiler, args, folder);
  if (stderr.trim() !== '') throw new Error(stderr.trim());
  return stdout;
}

/** Runs the compiler for those who want to see its diagnostics. Fails only where it fails. */
export async function runBicep(
  compiler: string,
  args: readonly string[],
  folder: string,
): Promise<{ readonly stdout: string; readonly stderr: string }> {
  return run(compiler, [...args], {
    cwd: folder,
    maxBuffer: 64 * 1024 * 1024,
    // Single-file .NET programs want a library for languages that small machines lack.
    env: { ...process.env, DOTNET_SYSTEM_GLOBALIZATION_INVARIANT: '1' },
  });
}

/** Restores into a folder of its own and moves the result, so that two processes do not disturb each other. */
async function restore(destination: string, executable: string): Promise<void> {
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, 'restore-'));
  try {
    const id = `Azure.Bicep.CommandLine.${systems[process.platform] ?? process.platform}-${process.arch}`;
    await writeFile(join(folder, 'bicep.csproj'), project(id));
    await run('dotnet', ['restore', 'bicep.csproj', '--packages', 'packages'], { cwd: folder });
    const tools = join(folder, 'packages', id.toLowerCase(), bicepVersion, 'tools');
    await chmod(join(tools, executable), 0o755);
    await rename(tools, join(destination, '..')).catch(async (error: unknown) => {
      if (!(await exists(destination))) throw error;
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The smallest project that downloads one package and needs no other. */
function project(id: string): string {
  return `<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup>
    <TargetFramework>netstandard2.0</TargetFramework>
    <DisableImplicitFrameworkReferences>true</DisableImplicitFrameworkReferences>
  </PropertyGroup>
  <ItemGroup>
    <PackageDownload Include="${id}" Version="[${bicepVersion}]" />
  </ItemGroup>
</Project>
`;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function answers(command: string): Promise<boolean> {
  return run(command, ['--version']).then(
    () => true,
    () => false,
  );
}
