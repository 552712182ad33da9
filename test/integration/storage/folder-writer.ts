/** Adds a hundred to a counter in a folder, one by one, by conditional writes: one of several processes that do. */
import { once } from 'node:events';
import { openFolderStores } from '../../../lib/storage/folder.ts';

const [folder = ''] = process.argv.slice(2);
const { state } = openFolderStores(folder);

process.send?.('ready');
await once(process, 'message');
for (let written = 0; written < 100; ) {
  const counter = await state.get('counter');
  if (counter === undefined) throw new Error('the counter is gone');
  const next = Buffer.from(`${Number(Buffer.from(counter.bytes).toString()) + 1}`);
  if ((await state.put('counter', next, { ifMatch: counter.etag })) !== undefined) written += 1;
}
process.exit();
