/** Keeps something in a folder, for at most a minute: the `lease` on the document `a`, or the folder's `lock`. */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import { FolderLock } from '../../../lib/storage/folder-lock.ts';

const [folder = '', what] = process.argv.slice(2);

if (what === 'lease') {
  const lease = await openFolderStores(folder).state.lease('a', 60);
  writeSync(1, `${process.pid} ${lease?.id}\n`);
  setTimeout(() => undefined, 60_000);
} else {
  await new FolderLock(join(folder, '.lock')).run(() => {
    writeSync(1, `${process.pid}\n`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000);
  }, undefined);
}
