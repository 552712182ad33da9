/** `ENOENT` and its like, without the path that Node's messages repeat. */
export function reasonOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
}
