/** The tags of a repository, held small: one costs its name and a record of 48 bytes, however many there are. */
import type { Digest, Platform } from '../../oci/descriptor.ts';
import type { TagEntry } from '../../oci/roles.ts';

/** What tells how old a tag is. */
export type Dated = Pick<TagEntry, 'name' | 'pushedAt'>;

/** A record: the digest's 32 bytes, the time of the last push, the place of the platforms, marks. */
const recordSize = 48;
const [pushedAtOffset, platformsOffset, marksOffset] = [32, 40, 44];
const firstCapacity = 64;

const hasSha256 = 1;
const isLocked = 2;
const isSure = 4;

const sha256 = /^sha256:[0-9a-f]{64}$/;

export class TagTable {
  readonly #places = new Map<string, number>();
  /** Places that were ever taken: one that was left is not taken again. */
  #taken = 0;
  #records = new DataView(new ArrayBuffer(firstCapacity * recordSize));
  #bytes = Buffer.from(this.#records.buffer);
  /** Digests of other algorithms, by name. */
  readonly #otherDigests = new Map<string, Digest>();
  /** Tags of one repository offer few sets of platforms. */
  readonly #platforms: (readonly Platform[] | undefined)[] = [undefined];
  readonly #placesOfPlatforms = new Map<readonly Platform[] | undefined, number>([[undefined, 0]]);

  get size(): number {
    return this.#places.size;
  }

  get names(): Iterable<string> {
    return this.#places.keys();
  }

  /** Puts a tag in the place of what was known of it. @param sure whether the registry itself told its digest */
  set(entry: TagEntry, sure: boolean): void {
    const { name, digest, pushedAt = Number.NaN, locked = false, platforms } = entry;
    const at = this.#placeFor(name) * recordSize;
    const packs = digest !== undefined && sha256.test(digest);
    if (packs) this.#bytes.write(digest.slice('sha256:'.length), at, 'hex');
    if (digest === undefined || packs) this.#otherDigests.delete(name);
    else this.#otherDigests.set(name, digest);
    this.#records.setFloat64(at + pushedAtOffset, pushedAt);
    this.#records.setUint32(at + platformsOffset, this.#placeOf(platforms));
    const marks = (packs ? hasSha256 : 0) | (locked ? isLocked : 0) | (sure ? isSure : 0);
    this.#records.setUint8(at + marksOffset, marks);
  }

  get(name: string): TagEntry | undefined {
    const place = this.#places.get(name);
    if (place === undefined) return undefined;
    const at = place * recordSize;
    return {
      name,
      digest: this.#digestAt(at, name),
      pushedAt: this.#pushedAt(at),
      locked: this.#has(at, isLocked),
      platforms: this.#platforms[this.#records.getUint32(at + platformsOffset)],
    };
  }

  has(name: string): boolean {
    return this.#places.has(name);
  }

  pushedAt(name: string): number | undefined {
    const place = this.#places.get(name);
    return place === undefined ? undefined : this.#pushedAt(place * recordSize);
  }

  digestOf(name: string): Digest | undefined {
    const place = this.#places.get(name);
    return place === undefined ? undefined : this.#digestAt(place * recordSize, name);
  }

  /** Whether the registry itself told the digest. */
  isSure(name: string): boolean {
    const place = this.#places.get(name);
    return place !== undefined && this.#has(place * recordSize, isSure);
  }

  delete(name: string): void {
    this.#places.delete(name);
    this.#otherDigests.delete(name);
  }

  #placeFor(name: string): number {
    const known = this.#places.get(name);
    if (known !== undefined) return known;
    const place = this.#taken;
    this.#taken += 1;
    if (this.#taken * recordSize > this.#bytes.length) this.#grow();
    this.#places.set(name, place);
    return place;
  }

  #grow(): void {
    this.#records = new DataView(this.#records.buffer.transfer(2 * this.#bytes.length));
    this.#bytes = Buffer.from(this.#records.buffer);
  }

  #placeOf(platforms: readonly Platform[] | undefined): number {
    const known = this.#placesOfPlatforms.get(platforms);
    if (known !== undefined) return known;
    const place = this.#platforms.push(platforms) - 1;
    this.#placesOfPlatforms.set(platforms, place);
    return place;
  }

  #pushedAt(at: number): number | undefined {
    const pushedAt = this.#records.getFloat64(at + pushedAtOffset);
    return Number.isNaN(pushedAt) ? undefined : pushedAt;
  }

  #digestAt(at: number, name: string): Digest | undefined {
    if (!this.#has(at, hasSha256)) return this.#otherDigests.get(name);
    return `sha256:${this.#bytes.toString('hex', at, at + pushedAtOffset)}`;
  }

  #has(at: number, mark: number): boolean {
    return (this.#records.getUint8(at + marksOffset) & mark) !== 0;
  }
}
