import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HubferryError } from '../../../lib/errors.ts';
import { digestOf } from '../../../lib/oci/digest.ts';
import {
  attestationSubject,
  descriptorOf,
  isAttestation,
  isForeign,
  isIndexType,
  isManifestType,
  manifestMediaTypes,
  maxBlobs,
  maxChildren,
  maxManifestBytes,
  mediaTypes,
  parseManifest,
  platformOfConfig,
  refuseSchema1,
} from '../../../lib/oci/manifest.ts';
import { attestation, child, descriptor, indexOf, manifestOf, textManifest } from './builders.ts';

const config = descriptor('config', { mediaType: 'application/vnd.oci.image.config.v1+json' });
const first = descriptor('first');
const second = descriptor('second');
const body = { schemaVersion: 2, mediaType: mediaTypes.ociManifest, config, layers: [first, second] };

const invalid = expect.objectContaining({ code: 'ERR_MANIFEST_INVALID' });
const tooLarge = expect.objectContaining({ code: 'ERR_TOO_LARGE' });
const schema1 = expect.objectContaining({ code: 'ERR_SCHEMA1' });

describe('parseManifest, given a manifest', () => {
  it('names the config first, then the rest in its order', () => {
    const content = parseManifest(manifestOf(body));
    expect(content).toEqual({
      kind: 'manifest',
      mediaType: mediaTypes.ociManifest,
      config,
      manifests: [],
      blobs: [config, first, second],
    });
  });

  it('reads Docker schema 2 as well', () => {
    const docker = { ...body, mediaType: mediaTypes.dockerManifest };
    const content = parseManifest(manifestOf(docker, mediaTypes.dockerManifest));
    expect(content.mediaType).toBe(mediaTypes.dockerManifest);
    expect(content.blobs).toEqual([config, first, second]);
  });

  it('names a repeated blob once', () => {
    const content = parseManifest(manifestOf({ ...body, layers: [first, second, first, config] }));
    expect(content.blobs).toEqual([config, first, second]);
  });

  it('refuses two sizes for one digest', () => {
    const layers = [first, { ...first, size: first.size + 1 }];
    expect(() => parseManifest(manifestOf({ ...body, layers }))).toThrow(/two sizes/);
  });

  it('takes a blob of no bytes', () => {
    const empty = descriptor('', { size: 0 });
    expect(parseManifest(manifestOf({ ...body, layers: [empty] })).blobs).toEqual([config, empty]);
  });

  it('reads subject, artifact type and annotations', () => {
    const subject = child(undefined);
    const more = { subject, artifactType: 'application/spdx+json', annotations: { 'org.example': 'x' } };
    expect(parseManifest(manifestOf({ ...body, ...more }))).toMatchObject(more);
  });

  it('tolerates what it does not know, in the manifest and in its descriptors', () => {
    const layers = [{ ...first, data: 'eA==', 'com.example.future': { deep: [1] } }];
    const content = parseManifest(manifestOf({ ...body, layers, future: { field: null } }));
    expect(content.blobs).toEqual([config, first]);
  });

  it('reads null as absent, which Go writes for what is empty', () => {
    const content = parseManifest(
      manifestOf({ ...body, layers: null, subject: null, annotations: null, artifactType: null }),
    );
    expect(content).toEqual({
      kind: 'manifest',
      mediaType: mediaTypes.ociManifest,
      config,
      manifests: [],
      blobs: [config],
    });
  });

  it('reads an artifact manifest with blobs and a subject', () => {
    const subject = child(undefined);
    const artifact = { mediaType: mediaTypes.ociArtifact, artifactType: 'a/b', blobs: [first], subject };
    const content = parseManifest(manifestOf(artifact, mediaTypes.ociArtifact));
    expect(content).toMatchObject({ kind: 'manifest', artifactType: 'a/b', blobs: [first], subject });
  });

  it('reads an artifact manifest that is nothing but about its subject', () => {
    const artifact = { mediaType: mediaTypes.ociArtifact, artifactType: 'a/b', subject: child(undefined) };
    expect(parseManifest(manifestOf(artifact, mediaTypes.ociArtifact))).toMatchObject({
      kind: 'manifest',
      blobs: [],
    });
  });

  it('ignores a field that only artifact manifests have', () => {
    expect(parseManifest(manifestOf({ ...body, blobs: [descriptor('other')] })).blobs).toEqual([
      config,
      first,
      second,
    ]);
  });

  it.each([
    ['without a config', { schemaVersion: 2, layers: [first] }],
    ['of another schema version', { ...body, schemaVersion: 3 }],
    ['with a malformed digest', { ...body, config: { ...config, digest: 'sha256:00' } }],
    [
      'with a digest of an unknown algorithm',
      { ...body, config: { ...config, digest: `md5:${'0'.repeat(32)}` } },
    ],
    ['with a digest that is a number', { ...body, config: { ...config, digest: 7 } }],
    ['with a negative size', { ...body, config: { ...config, size: -1 } }],
    ['with half a byte', { ...body, config: { ...config, size: 0.5 } }],
    ['with a size beyond exact numbers', { ...body, config: { ...config, size: 2 ** 53 } }],
    ['with a size in a text', { ...body, config: { ...config, size: '7' } }],
    ['without a size', { ...body, config: { ...config, size: undefined } }],
    ['with a NUL in a media type', { ...body, config: { ...config, mediaType: 'a/b\0' } }],
    ['with a newline in a media type', { ...body, config: { ...config, mediaType: 'a/b\nc: d' } }],
    ['with an empty media type', { ...body, config: { ...config, mediaType: '' } }],
    ['with blobs that are no list', { ...body, layers: { 0: first } }],
    ['with annotations that are no texts', { ...body, annotations: { a: 1 } }],
    ['with a malformed subject', { ...body, subject: { ...config, digest: 'x' } }],
    ['that names nothing', { schemaVersion: 2, mediaType: mediaTypes.ociManifest }],
  ])('refuses one %s', (_what, malformed) => {
    expect(() => parseManifest(manifestOf(malformed))).toThrow(invalid);
  });

  it('says which manifest, where and what is wrong', () => {
    const manifest = manifestOf({ ...body, layers: [first, { ...second, digest: 'sha256:00' }] });
    expect(() => parseManifest(manifest)).toThrow(
      `The manifest ${manifest.descriptor.digest} is malformed at layers.1.digest: expected a sha256 or sha512 digest.`,
    );
  });

  it('shows no control characters of others in a message', () => {
    const manifest = manifestOf({ ...body, annotations: { '\u001b[31m\u202e': 1 } });
    expect(() => parseManifest(manifest)).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^[\x20-\x7e]+$/) }),
    );
  });
});

describe('parseManifest, given an index', () => {
  const amd64 = child('linux/amd64');
  const arm64 = child('linux/arm64/v8');

  it('names its children in their order, nested indexes too', () => {
    const nested = child(undefined, { mediaType: mediaTypes.ociIndex });
    const content = parseManifest(indexOf([amd64, arm64, nested, attestation(amd64)]));
    expect(content).toEqual({
      kind: 'index',
      mediaType: mediaTypes.ociIndex,
      manifests: [amd64, arm64, nested, attestation(amd64)],
      blobs: [],
    });
  });

  it("reads Docker's manifest list", () => {
    const list = { schemaVersion: 2, mediaType: mediaTypes.dockerList, manifests: [amd64] };
    expect(parseManifest(manifestOf(list, mediaTypes.dockerList))).toMatchObject({
      kind: 'index',
      mediaType: mediaTypes.dockerList,
      manifests: [amd64],
    });
  });

  it('keeps one child that stands for two platforms', () => {
    const twice = [
      child('linux/arm/v6'),
      { ...child('linux/arm/v6'), platform: child('linux/arm/v7').platform },
    ];
    expect(parseManifest(indexOf(twice)).manifests).toEqual(twice);
  });

  it('refuses two sizes for one child', () => {
    expect(() => parseManifest(indexOf([amd64, { ...amd64, size: 1 }]))).toThrow(/two sizes/);
  });

  it.each([[[]], [null]])('takes an index of no children, written %j', (manifests) => {
    const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests };
    expect(parseManifest(manifestOf(index, mediaTypes.ociIndex)).manifests).toEqual([]);
  });

  it('takes a child of an unknown type', () => {
    const thing = child(undefined, {
      mediaType: 'application/vnd.example.thing.v1+json',
      artifactType: 'a/b',
    });
    expect(parseManifest(indexOf([thing])).manifests).toEqual([thing]);
  });

  it.each([[null], [{}], ['linux/amd64'], [{ os: 'linux' }], [{ os: 'linux\n', architecture: 'amd64' }]])(
    'reads the malformed platform %j as none',
    (platform) => {
      const index = indexOf([{ ...child(undefined), platform }]);
      expect(parseManifest(index).manifests).toEqual([child(undefined)]);
    },
  );

  it('reads version and features of an operating system', () => {
    const platform = {
      os: 'windows',
      architecture: 'amd64',
      'os.version': '10.0.17763.1',
      'os.features': ['win32k'],
    };
    expect(parseManifest(indexOf([{ ...child(undefined), platform }])).manifests[0]?.platform).toEqual(
      platform,
    );
  });

  it.each([
    ['a list of numbers', [1]],
    ['an object', {}],
    ['a text', 'x'],
  ])('refuses children that are %s', (_what, manifests) => {
    const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests };
    expect(() => parseManifest(manifestOf(index, mediaTypes.ociIndex))).toThrow(invalid);
  });
});

describe('parseManifest, on the media type', () => {
  const index = { schemaVersion: 2, manifests: [child('linux/amd64')] };
  const unknown = 'application/vnd.example.bundle.v1+json';

  it('takes the one it came with when the body has none', () => {
    const { mediaType: _, ...bare } = body;
    expect(parseManifest(manifestOf(bare, mediaTypes.dockerManifest)).mediaType).toBe(
      mediaTypes.dockerManifest,
    );
  });

  it("takes the body's when it came with none that says anything", () => {
    for (const generic of ['', 'application/json', 'application/octet-stream', 'text/plain; charset=utf-8']) {
      expect(parseManifest(manifestOf(body, generic)).mediaType).toBe(mediaTypes.ociManifest);
    }
  });

  it('takes the shape when nobody tells', () => {
    const { mediaType: _, ...bare } = body;
    expect(parseManifest(manifestOf(bare, 'application/json')).mediaType).toBe(mediaTypes.ociManifest);
    expect(parseManifest(manifestOf(index, 'application/json')).mediaType).toBe(mediaTypes.ociIndex);
  });

  it('ignores parameters', () => {
    const manifest = manifestOf(body, `${mediaTypes.ociManifest}; charset=utf-8`);
    expect(parseManifest(manifest).mediaType).toBe(mediaTypes.ociManifest);
  });

  it('reads a manifest of an unknown type by its shape', () => {
    expect(parseManifest(manifestOf(index, unknown))).toMatchObject({ kind: 'index', mediaType: unknown });
    expect(parseManifest(manifestOf({ layers: [first] }, unknown))).toMatchObject({
      kind: 'manifest',
      blobs: [first],
    });
    expect(parseManifest(manifestOf({ blobs: [first] }, unknown))).toMatchObject({
      kind: 'manifest',
      blobs: [first],
    });
    expect(() => parseManifest(manifestOf({ things: [first] }, unknown))).toThrow(invalid);
  });

  it('refuses a body that says it is something else', () => {
    expect(() => parseManifest(manifestOf(body, mediaTypes.dockerManifest))).toThrow(
      /given as \S+docker\S+ but says that it is \S+oci/,
    );
  });

  it('refuses what can be read as an index and as a manifest', () => {
    const both = { ...body, manifests: [child('linux/amd64')] };
    for (const mediaType of [mediaTypes.ociManifest, unknown]) {
      expect(() => parseManifest(manifestOf({ ...both, mediaType }, mediaType))).toThrow(
        /both children and blobs/,
      );
    }
    expect(() => parseManifest(manifestOf({ ...index, config }, mediaTypes.ociIndex))).toThrow(invalid);
    expect(() => parseManifest(manifestOf({ ...index, layers: [] }, mediaTypes.ociIndex))).toThrow(invalid);
  });

  it('refuses a type that the shape contradicts', () => {
    expect(() => parseManifest(manifestOf(index, mediaTypes.ociManifest))).toThrow(invalid);
    expect(() => parseManifest(manifestOf({ ...body, mediaType: undefined }, mediaTypes.dockerList))).toThrow(
      invalid,
    );
  });

  it('refuses Docker schema 1 with its own error, by media type and by content', () => {
    const old = { schemaVersion: 1, name: 'a', fsLayers: [{ blobSum: first.digest }] };
    for (const type of [mediaTypes.dockerSchema1, mediaTypes.dockerSchema1Signed, 'application/json']) {
      expect(() => parseManifest(manifestOf(old, type))).toThrow(schema1);
    }
    expect(() => parseManifest(textManifest('', mediaTypes.dockerSchema1Signed))).toThrow(schema1);
    expect(() => parseManifest(manifestOf({ ...body, fsLayers: [] }))).toThrow(schema1);
    const disguised = { ...body, mediaType: mediaTypes.dockerSchema1 };
    expect(() => parseManifest(manifestOf(disguised, 'application/json'))).toThrow(schema1);
  });

  it('refuses Docker schema 1 by what a HEAD tells, and says of which manifest', () => {
    const { digest } = first;
    const refused = () => refuseSchema1({ ...first, mediaType: mediaTypes.dockerSchema1Signed });
    expect(refused).toThrow(schema1);
    expect(refused).toThrow(digest);
  });
});

describe('parseManifest, on bytes made to harm', () => {
  it.each([
    ['no bytes', ''],
    ['no JSON', '{'],
    ['a list', '[]'],
    ['a text', '"x"'],
    ['null', 'null'],
    ['two documents', '{}{}'],
    ['a byte order mark', '\ufeff{"layers":[]}'],
    ['a NUL between tokens', '{\0}'],
    ['a NUL in a text', '{"a":"\0"}'],
  ])('refuses %s', (_what, text) => {
    expect(() => parseManifest(textManifest(text, 'application/json'))).toThrow(invalid);
  });

  it('refuses bytes that are no UTF-8', () => {
    const bytes = Uint8Array.from([...new TextEncoder().encode('{"a":"'), 0xff, 0x22, 0x7d]);
    expect(() => parseManifest({ descriptor: descriptorOf(bytes, ''), bytes })).toThrow(/no UTF-8/);
  });

  it.each([
    ['at the top', '{"layers":[],"layers":[]}'],
    ['escaped', '{"layers":[],"l\\u0061yers":[]}'],
    ['apart, with space before the colon', '{"a":{"b":[1,{"c":2}],"d":"}"},"x":1,"a" \n:2}'],
    ['below', `{"layers":[],"annotations":{"a\\\\":"1","b":"\\"","a\\\\":"2"}}`],
  ])('refuses a key given twice, %s', (_where, text) => {
    expect(() => parseManifest(textManifest(text))).toThrow(/twice/);
  });

  it('takes the same key in two objects, and a text that looks like one', () => {
    const annotations = { a: 'layers', b: '"layers":', c: 'x\\' };
    const layers = [
      { ...first, annotations },
      { ...second, annotations },
    ];
    expect(parseManifest(manifestOf({ ...body, layers })).blobs).toHaveLength(3);
  });

  it('refuses a key that changes prototypes, and stays unharmed', () => {
    for (const text of [
      '{"__proto__":{"layers":[]}}',
      '{"layers":[],"annotations":{"\\u005f_proto__":"x"}}',
    ]) {
      expect(() => parseManifest(textManifest(text))).toThrow(/__proto__/);
    }
    expect({}).not.toHaveProperty('layers');
  });

  it('refuses deep nesting, in brackets or in objects', () => {
    const depth = 1_000_000;
    for (const [open, close] of [
      ['[', ']'],
      ['{"a":', '}'],
    ] as const) {
      const text = `{"layers":[],"x":${open.repeat(depth / open.length)}1${close.repeat(depth / open.length)}}`;
      expect(() => parseManifest(textManifest(text))).toThrow(invalid);
    }
  });

  it('refuses more bytes than a manifest may have, before it reads them', () => {
    const bytes = new Uint8Array(maxManifestBytes + 1);
    expect(() => parseManifest({ descriptor: descriptorOf(bytes, ''), bytes })).toThrow(tooLarge);
  });

  it('takes a manifest of exactly the greatest size', () => {
    const text = JSON.stringify(body);
    const manifest = textManifest(text + ' '.repeat(maxManifestBytes - text.length));
    expect(parseManifest(manifest).blobs).toHaveLength(3);
  });

  it('takes as many children and blobs as are allowed, and refuses one more', () => {
    const children = (count: number) => indexOf(Array(count).fill(child('linux/amd64')));
    expect(parseManifest(children(maxChildren)).manifests).toHaveLength(maxChildren);
    expect(() => parseManifest(children(maxChildren + 1))).toThrow(tooLarge);
    const blobs = (count: number) => manifestOf({ ...body, layers: Array(count).fill(first) });
    expect(parseManifest(blobs(maxBlobs)).blobs).toHaveLength(2);
    expect(() => parseManifest(blobs(maxBlobs + 1))).toThrow(tooLarge);
  });

  it('answers with content or with an error of its own, whatever the JSON', () => {
    const members = fc.constantFrom(
      ...['schemaVersion', 'mediaType', 'config', 'layers', 'blobs', 'manifests', 'subject', 'annotations'],
    );
    const values = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom(1, 2, ...Object.values(mediaTypes)),
      fc.constantFrom<object>(
        config,
        first,
        [first, second],
        [child('linux/amd64')],
        [{ ...first, size: 0 }],
      ),
    );
    const types = fc.constantFrom(...Object.values(mediaTypes), '', 'a/b');
    fc.assert(
      fc.property(fc.dictionary(members, values), types, (json, type) => {
        expectContentOrOwnError(() => parseManifest(manifestOf(json, type)));
      }),
      { numRuns: 2000 },
    );
  });

  it('answers with content or with an error of its own, when any bytes are damaged', () => {
    const { bytes } = manifestOf({ ...body, annotations: { a: 'b\\"' }, subject: child('linux/amd64') });
    const damages = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(damages, (places) => {
        const damaged = Uint8Array.from(bytes);
        for (const [at, byte] of places) damaged[at] = byte;
        const manifest = { descriptor: descriptorOf(damaged, mediaTypes.ociManifest), bytes: damaged };
        expectContentOrOwnError(() => parseManifest(manifest));
      }),
      { numRuns: 2000 },
    );
  });
});

function expectContentOrOwnError(read: () => unknown): void {
  try {
    expect(read()).toHaveProperty('kind');
  } catch (error) {
    expect(error).toBeInstanceOf(HubferryError);
    expect(error).toHaveProperty('code', expect.stringMatching(/^ERR_(MANIFEST_INVALID|SCHEMA1|TOO_LARGE)$/));
  }
}

describe('what descriptors tell', () => {
  it('a foreign blob is known by its media type or its URLs', () => {
    const type = (mediaType: string) => descriptor('x', { mediaType });
    expect(isForeign(type('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'))).toBe(true);
    expect(isForeign(type('application/vnd.oci.image.layer.nondistributable.v1.tar+zstd'))).toBe(true);
    expect(isForeign(descriptor('x', { urls: ['https://example.com/x'] }))).toBe(true);
    expect(isForeign(descriptor('x', { urls: [] }))).toBe(false);
    expect(isForeign(descriptor('x'))).toBe(false);
  });

  it('a foreign blob stays among the blobs', () => {
    const foreign = descriptor('x', { urls: ['https://example.com/x'] });
    const { blobs } = parseManifest(manifestOf({ ...body, layers: [foreign] }));
    expect(blobs.filter(isForeign)).toEqual([foreign]);
  });

  it('an attestation names its subject', () => {
    const subject = child('linux/amd64');
    expect(isAttestation(attestation(subject))).toBe(true);
    expect(attestationSubject(attestation(subject))).toBe(subject.digest);
    expect(isAttestation(subject)).toBe(false);
    expect(attestationSubject(subject)).toBeUndefined();
  });

  it('an attestation with a malformed subject has none', () => {
    const annotations = {
      'vnd.docker.reference.type': 'attestation-manifest',
      'vnd.docker.reference.digest': 'x',
    };
    expect(attestationSubject(descriptor('x', { annotations }))).toBeUndefined();
    expect(
      attestationSubject(
        descriptor('x', { annotations: { 'vnd.docker.reference.digest': child('a/b').digest } }),
      ),
    ).toBeUndefined();
  });

  it('descriptorOf describes bytes', () => {
    const bytes = new TextEncoder().encode('{}');
    expect(descriptorOf(bytes, mediaTypes.ociEmpty)).toEqual({
      mediaType: 'application/vnd.oci.empty.v1+json',
      digest: 'sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',
      size: 2,
    });
    expect(descriptorOf(bytes, 'a/b', 'sha512').digest).toBe(digestOf(bytes, 'sha512'));
  });

  it('index types and manifest types exclude each other, and all are asked for', () => {
    for (const type of manifestMediaTypes.slice(0, -1)) {
      expect(isIndexType(type)).not.toBe(isManifestType(type));
    }
    expect(manifestMediaTypes.at(-1)).toBe('*/*');
    expect(isIndexType('a/b') || isManifestType('a/b')).toBe(false);
  });
});

describe('platformOfConfig', () => {
  const platformOf = (text: string) => platformOfConfig(new TextEncoder().encode(text));

  it('reads what the config says of its platform, and nothing else', () => {
    const platform = { os: 'windows', architecture: 'amd64', 'os.version': '10.0.17763.1' };
    expect(platformOf(JSON.stringify({ ...platform, variant: '', config: { Env: [] } }))).toEqual(platform);
    expect(platformOf('{"os":"linux","architecture":"arm","variant":"v7"}')).toEqual({
      os: 'linux',
      architecture: 'arm',
      variant: 'v7',
    });
  });

  it.each([
    '{}',
    '',
    'null',
    '[]',
    '{"os":"linux"}',
    '{"os":1,"architecture":2}',
    '{"os":"","architecture":""}',
  ])('reads none from %j', (text) => {
    expect(platformOf(text)).toBeUndefined();
  });
});
