export async function convertFiles(
  _command: unknown,
  _env: unknown,
): Promise<{ text: string; document: unknown }> {
  return { text: '', document: {} };
}
