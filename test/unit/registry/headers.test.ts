import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  headerOf,
  headersOf,
  parseContentRange,
  parseDecimal,
  parseNextLink,
  parseRetryAfter,
  parseUploadRange,
} from '../../../lib/registry/headers.ts';

const now = Date.parse('2026-11-24T08:00:00Z');

describe('Link', () => {
  it.each([
    ['</v2/a/tags/list?n=1&last=b>; rel="next"', '/v2/a/tags/list?n=1&last=b'],
    ['<https://x/y>; rel=next', 'https://x/y'],
    ['<https://x/y>; title="a, b"; REL="prev next"', 'https://x/y'],
    ['<a>; rel="prev", <b>; rel="next"', 'b'],
    ['<a>; title="\\"<x>; rel=next", <b>; rel=next', 'b'],
  ])('finds the next page in %s', (value, target) => {
    expect(parseNextLink([value])).toBe(target);
  });

  it.each([['<a>; rel="prev"'], ['<a>'], ['a; rel="next"'], ['<a'], [''], ['<a>; title="rel=next"']])(
    'finds none in %s',
    (value) => {
      expect(parseNextLink([value])).toBeUndefined();
    },
  );

  it('looks into every field', () => {
    expect(parseNextLink(['<a>; rel=first', '<b>; rel=next'])).toBe('b');
  });

  it('reads back any target that is written properly', () => {
    fc.assert(
      fc.property(fc.webUrl({ withQueryParameters: true }), (url) => {
        expect(parseNextLink([`<other>; rel=prev, <${url}>; rel="next"`])).toBe(url);
      }),
    );
  });

  it('reads any text in linear time without throwing', () => {
    fc.assert(fc.property(fc.array(fc.string({ unit: 'binary' })), (values) => void parseNextLink(values)));
    const begun = performance.now();
    parseNextLink(['<a>; rel='.repeat(50_000), '<'.repeat(200_000), '<a>"'.repeat(50_000)]);
    expect(performance.now() - begun).toBeLessThan(1000);
  });
});

describe('Range of an upload', () => {
  it('reads both forms', () => {
    expect(parseUploadRange('0-1023')).toEqual({ first: 0, last: 1023 });
    expect(parseUploadRange('bytes=0-0')).toEqual({ first: 0, last: 0 });
  });

  it.each(['', '5-4', '-5', '5-', 'bytes 0-5', '0-5,7-9', '0-99999999999999999', '0x1-2', '1e3-1e4'])(
    'takes %j for no range',
    (text) => {
      expect(parseUploadRange(text)).toBeUndefined();
    },
  );

  it('reads back every range, and never answers with one that ends before it starts', () => {
    const bytes = fc.nat(Number.MAX_SAFE_INTEGER);
    fc.assert(
      fc.property(bytes, bytes, (first, last) => {
        expect(parseUploadRange(`${first}-${last}`)).toEqual(last < first ? undefined : { first, last });
      }),
    );
    fc.assert(fc.property(fc.string(), (text) => void parseUploadRange(text)));
  });
});

describe('Content-Range', () => {
  it('reads a known and an unknown size', () => {
    expect(parseContentRange('bytes 500-999/1234')).toEqual({ first: 500, last: 999 });
    expect(parseContentRange('bytes 500-999/*')).toEqual({ first: 500, last: 999 });
  });

  it.each(['bytes */1234', 'bytes 999-500/1234', 'items 0-1/2', '0-1/2', 'bytes 0-1'])(
    'takes %j for none',
    (text) => {
      expect(parseContentRange(text)).toBeUndefined();
    },
  );

  it('takes any text without throwing', () => {
    fc.assert(fc.property(fc.string(), (text) => void parseContentRange(`bytes ${text}`)));
  });
});

describe('Retry-After', () => {
  it('reads seconds', () => {
    expect(parseRetryAfter({ 'retry-after': '3600' }, now)).toBe(now + 3_600_000);
    expect(parseRetryAfter({ 'retry-after': '0' }, now)).toBe(now);
  });

  it('reads the three forms of a date', () => {
    const time = Date.parse('1994-11-06T08:49:37Z');
    expect(parseRetryAfter({ 'retry-after': 'Sun, 06 Nov 1994 08:49:37 GMT' }, now)).toBe(time);
    expect(parseRetryAfter({ 'retry-after': 'Sunday, 06-Nov-94 08:49:37 GMT' }, now)).toBe(time);
    expect(parseRetryAfter({ 'retry-after': 'Sun Nov  6 08:49:37 1994' }, now)).toBe(time);
  });

  it.each(['Europe/Berlin', 'America/Los_Angeles'])('reads a date as UTC in %s', (zone) => {
    vi.stubEnv('TZ', zone);
    const time = Date.parse('1994-11-06T08:49:37Z');
    for (const text of ['Sun Nov  6 08:49:37 1994', 'Sun, 06 Nov 1994 08:49:37'])
      expect(parseRetryAfter({ 'retry-after': text }, now)).toBe(time);
    vi.unstubAllEnvs();
  });

  it('reads parts of a second, and the longest of values that were joined', () => {
    expect(parseRetryAfter({ 'retry-after': '120.0' }, now)).toBe(now + 120_000);
    expect(parseRetryAfter({ 'retry-after': '0.25' }, now)).toBe(now + 250);
    expect(parseRetryAfter({ 'retry-after': '60, 120,5' }, now)).toBe(now + 120_000);
  });

  it("reads Docker Hub's Unix time", () => {
    expect(parseRetryAfter({ 'x-retry-after': String(now / 1000 + 90) }, now)).toBe(now + 90_000);
  });

  it.each(['1764344000000', '9007199254740', 'Fri, 31 Dec 9999 23:59:59 GMT'])(
    'takes %s for no time: nobody means years',
    (text) => {
      expect(parseRetryAfter({ 'retry-after': text }, now)).toBeUndefined();
      expect(parseRetryAfter({ 'x-retry-after': text }, now)).toBeUndefined();
      expect(parseRetryAfter({ 'retry-after': [text, '20'] }, now)).toBe(now + 20_000);
    },
  );

  it('keeps the later one of two', () => {
    expect(parseRetryAfter({ 'retry-after': ['5', '20'], 'x-retry-after': '7' }, now)).toBe(now + 20_000);
  });

  it.each(['', 'soon', '-5', '1.5', '2026', '99999999999999999999', 'Tomorrow 12:00'])(
    'takes %j for no time',
    (text) => {
      expect(parseRetryAfter({ 'retry-after': text }, now) ?? now).toBeGreaterThanOrEqual(now);
      expect(Number.isNaN(parseRetryAfter({ 'retry-after': text }, now))).toBe(false);
    },
  );

  it('reads back every date, and no text makes it a time that is none', () => {
    fc.assert(
      fc.property(fc.date({ min: new Date(0), max: new Date('2027-11-01'), noInvalidDate: true }), (date) => {
        const seconds = Math.floor(date.getTime() / 1000) * 1000;
        expect(parseRetryAfter({ 'retry-after': date.toUTCString() }, now)).toBe(seconds);
      }),
    );
    fc.assert(
      fc.property(fc.string(), (text) => {
        const time = parseRetryAfter({ 'retry-after': text, 'x-retry-after': text }, now);
        expect(time === undefined || Number.isFinite(time)).toBe(true);
      }),
    );
  });
});

describe('fields', () => {
  it('never finds what a server did not send', () => {
    expect(headerOf({}, 'constructor')).toBeUndefined();
    expect(headersOf({}, '__proto__')).toEqual([]);
  });

  it('reads a field that came several times', () => {
    expect(headerOf({ link: ['a', 'b'] }, 'link')).toBe('a');
    expect(headersOf({ link: ['a', 'b'] }, 'link')).toEqual(['a', 'b']);
  });

  it('reads digits alone as a number', () => {
    expect(parseDecimal('0042')).toBe(42);
    for (const text of ['', '-1', '1e3', ' 1', '0x10', '9007199254740993', undefined]) {
      expect(parseDecimal(text)).toBeUndefined();
    }
  });
});
