/** How fast blobs travel. */
import type { Copying } from './answers.ts';
import { second } from './format.ts';

interface Sample {
  readonly offset: number;
  readonly savedAt: number;
  readonly speed: number | undefined;
}

/** Bytes a second, from what one answer says and the one before. */
export class Speeds {
  #samples = new Map<string, Sample>();

  take(copying: readonly Copying[]): void {
    this.#samples = new Map(copying.map((one) => [keyOf(one.target, one.digest), this.#next(one)]));
  }

  of(target: string, digest: string): number | undefined {
    return this.#samples.get(keyOf(target, digest))?.speed;
  }

  #next({ target, digest, offset, savedAt }: Copying): Sample {
    const before = this.#samples.get(keyOf(target, digest));
    if (before === undefined || savedAt <= before.savedAt)
      return { offset: before?.offset ?? offset, savedAt: before?.savedAt ?? savedAt, speed: before?.speed };
    const speed = ((offset - before.offset) / (savedAt - before.savedAt)) * second;
    return { offset, savedAt, speed: Math.max(0, speed) };
  }
}

function keyOf(target: string, digest: string): string {
  return `${target}@${digest}`;
}
