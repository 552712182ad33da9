/** hubferry and its peers, as their users call them. Each run has a folder of its own, so nothing is remembered between runs. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Ended, type ProgramOptions, run } from './process.ts';

/** Node as the project pins it, and the program as it is published. */
export interface Hubferry {
  readonly node: string;
  readonly file: string;
}

export function hubferry(
  { node, file }: Hubferry,
  args: readonly string[],
  options: ProgramOptions,
): Promise<Ended> {
  return run([node, file, ...args], options);
}

/** A login at the target, where it wants one. */
export interface Login {
  readonly username: string;
  readonly password: string;
}

/** It is told to keep digests, as hubferry does. */
export function skopeoCopy(
  source: string,
  target: string,
  options: ProgramOptions,
  login?: Login,
): Promise<Ended> {
  const names = [`docker://${source}`, `docker://${target}`];
  return run([...skopeo, 'copy', ...faithful, ...credentials(login), ...names], options);
}

/** `target` is the repository above: skopeo appends the last part of the source's name. */
export function skopeoSync(
  source: string,
  target: string,
  options: ProgramOptions,
  login?: Login,
): Promise<Ended> {
  const kinds = ['--src=docker', '--dest=docker'];
  return run([...skopeo, 'sync', ...kinds, ...faithful, ...credentials(login), source, target], options);
}

function credentials(login: Login | undefined): string[] {
  return login === undefined ? [] : [`--dest-creds=${login.username}:${login.password}`];
}

const skopeo = ['skopeo', '--insecure-policy'];
const faithful = ['--all', '--preserve-digests', '--src-tls-verify=false', '--dest-tls-verify=false'];

/**
 * The least that a copy takes with tools that every system has: one GET, hashed on its way, into one PATCH. Opening and
 * closing the upload are within its time, since without them there is no blob.
 */
export function floor(
  from: { readonly url: string; readonly repository: string },
  to: { readonly url: string; readonly repository: string },
  digest: string,
  options: ProgramOptions,
): Promise<Ended> {
  const script = `
    set -eo pipefail
    get=$1 uploads=$2 digest=$3
    location() { sed -n 's/^[Ll]ocation: *\\([^[:space:]]*\\).*/\\1/p'; }
    opened=$(curl -sSf -o /dev/null -D - -X POST "$uploads" | location)
    sent=$(curl -sSf "$get" | tee >(sha256sum > sum) |
      curl -sSf -o /dev/null -D - -X PATCH -H 'content-type: application/octet-stream' -T - "$opened" | location)
    curl -sSf -o /dev/null -X PUT "$sent&digest=$digest"
    while [ ! -s sum ]; do :; done
    [ "sha256:$(cut -c-64 sum)" = "$digest" ]
  `;
  const get = `${from.url}/v2/${from.repository}/blobs/${digest}`;
  const uploads = `${to.url}/v2/${to.repository}/blobs/uploads/`;
  return run(['bash', '-c', script, 'bash', get, uploads, digest], options);
}

/** One blob of which all bytes lie in a file. */
export interface BlobFile {
  readonly file: string;
  readonly digest: string;
}

/**
 * What no copy can be faster than: the target alone, which gets all blobs at once from files that lie in memory, each in one
 * request. Nothing is read from a source, and nothing is hashed here.
 */
export function uploads(
  to: { readonly url: string; readonly repository: string },
  blobs: readonly BlobFile[],
  options: ProgramOptions,
): Promise<Ended> {
  const script = `
    set -eo pipefail
    uploads=$1
    shift
    location() { sed -n 's/^[Ll]ocation: *\\([^[:space:]]*\\).*/\\1/p'; }
    send() {
      opened=$(curl -sSf -o /dev/null -D - -X POST "$uploads" | location)
      sent=$(curl -sSf -o /dev/null -D - -X PATCH -H 'content-type: application/octet-stream' -T "$1" "$opened" | location)
      curl -sSf -o /dev/null -X PUT "$sent&digest=$2"
    }
    while [ $# -gt 0 ]; do
      send "$1" "$2" &
      sending+=($!)
      shift 2
    done
    for each in "\${sending[@]}"; do wait "$each"; done
  `;
  const words = blobs.flatMap(({ file, digest }) => [file, digest]);
  return run(
    ['bash', '-c', script, 'bash', `${to.url}/v2/${to.repository}/blobs/uploads/`, ...words],
    options,
  );
}

/** Runs something in an empty folder, which is gone afterwards. */
export async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), 'hubferry-bench-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
