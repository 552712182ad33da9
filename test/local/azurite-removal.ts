/**
 * Preloaded (`--import`) by Azurite: its database sorts all documents again for each that is removed by a query, forty
 * milliseconds at five thousand blobs, where Azure takes the same time for any number. A single document is removed as
 * the database does it by itself, from sorted indices that stay so.
 */
import { createRequire } from 'node:module';

interface Collection {
  readonly data: readonly object[];
  remove(document: object): void;
  removeBatchByPositions(positions: readonly number[]): void;
}

const ofAzurite = createRequire(createRequire(import.meta.url).resolve('azurite/dist/src/azurite.js'));
const { prototype } = ofAzurite('lokijs').Collection as { readonly prototype: Collection };
const removeMany = prototype.removeBatchByPositions;

prototype.removeBatchByPositions = function (positions) {
  const [position] = positions;
  const document = position === undefined || positions.length > 1 ? undefined : this.data[position];
  if (document === undefined) removeMany.call(this, positions);
  else this.remove(document);
};
