import { describe, expect, it } from 'vitest';
import { Tally } from '../../../lib/sync/runs/tally.ts';

describe('what the target had of the blobs', () => {
  it('counts once for each blob, as much as it ever had', () => {
    const tally = new Tally();
    tally.noteKept('m/b@1', 5);
    tally.noteKept('m/b@1', 8);
    tally.noteKept('m/b@1', 3);
    tally.noteKept('m/b@2', 10);
    expect(tally.kept).toBe(18);
    tally.noteExisting('m/b@1', 20);
    expect(tally.kept).toBe(30);
  });
});
