import type { DocumentStore } from '../../lib/storage/ports.ts';

/** Fails at one call and at every later one: a process that died there. */
export function dying(store: DocumentStore, calls: number): DocumentStore {
  let left = calls;
  const live = () => {
    left -= 1;
    if (left < 0) throw new Error('died');
  };
  return {
    async get(...args) {
      live();
      return store.get(...args);
    },
    async put(...args) {
      live();
      return store.put(...args);
    },
    async delete(...args) {
      live();
      return store.delete(...args);
    },
    list(...args) {
      live();
      return store.list(...args);
    },
    async lease(...args) {
      live();
      return store.lease(...args);
    },
  };
}
