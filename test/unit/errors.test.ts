import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keepSecret, keepToken, withoutSecrets } from '../../lib/errors/secrets.ts';
import { errorCodes, HubferryError, redact, redactUrl, summarize } from '../../lib/errors.ts';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

describe('error codes', () => {
  it('are the table of the README, in the same order and words', () => {
    const rows = [...readme.matchAll(/^\| `ERR_\w+` \| .*$/gm)].map(([row]) => row);
    const expected = Object.entries(errorCodes).map(
      ([code, { meaning, remedy }]) => `| \`${code}\` | ${meaning} | ${remedy} |`,
    );
    expect(rows).toEqual(expected);
  });

  it('stand in the README only where they exist', () => {
    for (const [, code] of readme.matchAll(/`(ERR_\w+)`/g)) expect(Object.keys(errorCodes)).toContain(code);
  });
});

describe('what people see of an error', () => {
  it('has no token, password or signature', () => {
    const message =
      'GET https://u:secret@host/x?sig=abcdef failed with Bearer abcdefghijk and password=hunter2';
    expect(redact(message)).not.toMatch(/secret|abcdef|hunter2/);
    expect(redactUrl('https://u:p@host/path?code=1#x')).toBe('https://host/path');
  });

  it('has no beginning of a token', () => {
    const token = `eyJ${'hbGci-OiJ'.repeat(40)}`;
    for (const told of [token, `${token}.${token}`, `${token}.${token}.${token}`])
      expect(redact(`the token ${told} has expired`)).toBe('the token *** has expired');
  });

  it('is no longer than anybody reads, and has no part of a login where it ends', () => {
    keepSecret('Tr0ub4dor&3-at-the-end');
    for (let before = 15_000; before < 16_400; before += 7) {
      const out = redact(`${'.'.repeat(before)}Tr0ub4dor&3-at-the-end${'.'.repeat(100_000)}`);
      expect(out).toMatch(/^\.+(\*\*\*\.*)?…$/);
      expect(out.length).toBeLessThanOrEqual(16_384);
    }
  });

  it('has the beginning of a long path alone, and no part of a login where that ends', () => {
    keepSecret('Tr0ub4dor&3-at-the-end');
    for (let before = 480; before < 520; before += 1) {
      const url = `https://host/${'.a'.repeat(before / 2)}Tr0ub4dor&3-at-the-end${'a'.repeat(50_000)}`;
      expect(redactUrl(url)).toMatch(/^https:\/\/host\/[.a]+(\*{1,3}[.a]*)?…$/);
      expect(redactUrl(url).length).toBeLessThan(600);
    }
  });

  /** How much more of the processor a text of eight times as much takes, whatever else runs; sixty-four times where each place is looked at from each. */
  const growth = (part: string) => {
    const fastest = (text: string) =>
      Math.min(
        ...Array.from({ length: 5 }, () => {
          const before = process.cpuUsage();
          withoutSecrets(text);
          return Math.max(1, process.cpuUsage(before).user);
        }),
      );
    return fastest(part.repeat(64_000 / part.length)) / fastest(part.repeat(8_000 / part.length));
  };

  it('takes time that grows with its length alone, whatever escapes it begins', () => {
    for (const part of ['\\', '\\\\U0001', '\\\\u00', '\\x4', '%4', '&#', '%2525'])
      expect(growth(part)).toBeLessThan(30);
  });

  it('takes time that grows with its length alone, however many logins are of one character', () => {
    for (const character of 'yY%')
      for (const length of [20, 250, 256, 300, 400]) {
        keepSecret(character.repeat(length));
        keepSecret(`${character.repeat(length)}!and-more`);
      }
    keepSecret('z'.repeat(300));
    keepSecret(`${'z'.repeat(20)}!and-more`);
    for (const part of ['y', '%', 'z', `${'z'.repeat(1599)} `]) expect(growth(part)).toBeLessThan(30);
  });

  it('is one line with a code', () => {
    expect(summarize(new HubferryError('ERR_SERVER', 'one\ntwo'))).toEqual({
      code: 'ERR_SERVER',
      message: 'one two',
    });
    expect(summarize(new TypeError('x')).code).toBe('ERR_INTERNAL');
  });
});

describe('a login that was sent', () => {
  const password = `S3écr3tPa/ss+w0rd&x=Zq~(9)"'<é`;
  const bytes = Buffer.from(password);
  const encoded = encodeURIComponent(password);
  const names: Readonly<Record<string, string>> = { '&': 'amp', '<': 'lt', '"': 'quot', "'": '#39' };
  const code = (text: string, digits: number) =>
    (text.codePointAt(0) ?? 0).toString(16).padStart(digits, '0');
  const html = password.replace(/[&<"']/g, (character) => `&${names[character]};`);

  it.each([
    ['as it is', password],
    ['in capitals', password.toUpperCase()],
    ['in a URL', encoded],
    ['in a URL, in small letters', encoded.replace(/%../g, (byte) => byte.toLowerCase())],
    ['in a URL, every byte of it', bytes.toString('hex').replace(/../g, '%$&')],
    ['in JSON with more escapes', JSON.stringify(password).slice(1, -1).replaceAll('/', '\\/')],
    ['in a form', new URLSearchParams({ password }).toString().slice('password='.length)],
    ['in JSON', JSON.stringify(password).slice(1, -1)],
    ['in HTML', html],
    ['in a URL within a URL', encodeURIComponent(encodeURIComponent(encoded))],
    ['in HTML, with numbers', [...password].map((character) => `&#${character.codePointAt(0)};`).join('')],
    ['in HTML, with some of them', password.replace(/[+&<>'"]/g, (character) => `&#x${code(character, 2)};`)],
    ['in HTML within HTML', html.replaceAll('&', '&amp;')],
    ['in JSON, with numbers alone', [...password].map((character) => `\\u${code(character, 4)}`).join('')],
    [
      'in JSON as .NET writes it',
      JSON.stringify(password)
        .slice(1, -1)
        .replace(/[+&<>'é]|\\"/g, (text) => `\\u${code(text.slice(-1), 4).toUpperCase()}`),
    ],
    ['in JSON within JSON', JSON.stringify(JSON.stringify({ password })).slice(17, -4)],
    ['in a URL, in Latin-1', password.replace(/[^\w]/g, (text) => `%${code(text, 2)}`)],
    ['in a text of a program, in Latin-1', password.replace(/["'é]/g, (text) => `\\x${code(text, 2)}`)],
    ['in a text of a program, every byte of it', bytes.toString('hex').replace(/../g, '\\x$&')],
    ['with its accents apart', password.normalize('NFD')],
    ['in a URL, with its accents apart', encodeURIComponent(password.normalize('NFD'))],
    ['in hexadecimal', bytes.toString('hex')],
    ['in hexadecimal, in capitals', bytes.toString('hex').toUpperCase()],
    ['in base64', bytes.toString('base64')],
    ['in base64 for URLs', bytes.toString('base64url')],
    ['in base64 after one byte more', Buffer.from(`:${password}`).toString('base64')],
    ['in base64 amid other bytes', Buffer.from(`robot:${password}!`).toString('base64url')],
    ['broken into lines', password.replace(/.{7}/gu, '$&\r\n  ')],
    ['broken by what nobody sees', [...password].join('\u200b\u00ad')],
    ['cut off', password.slice(0, 20)],
    ['in base64, cut off', bytes.toString('base64').slice(0, 16)],
  ])('is taken out of what others say, %s', (_, told) => {
    keepSecret(password);
    const out = redact(`you sent "${told}", robot`);
    expect(out).toMatch(/^you sent "\S{0,8}\*\*\*\S{0,4}", robot$/);
  });

  it('is taken out in every place, and nothing else is', () => {
    keepSecret('correct horse battery');
    keepSecret('hunter2');
    expect(redact('a hunter2 HUNTER2hunter2\nb correcthorse\tbattery  c correct horse')).toBe(
      'a *** ******\nb ***  c ***',
    );
    expect(redact('correct hors, hunter')).toBe('correct hors, hunter');
  });

  it('is taken out of any text, whatever stands around it', () => {
    const secret = fc.string({ unit: 'binary', minLength: 12, maxLength: 60 });
    fc.assert(
      fc.property(
        secret,
        fc.string({ unit: 'binary' }),
        fc.string({ unit: 'binary' }),
        (told, before, after) => {
          fc.pre(told.replace(/[\p{C}\s\\%]/gu, '').length >= 12);
          keepSecret(told);
          for (const form of [
            told,
            told.toWellFormed().toLowerCase(),
            encodeURIComponent(told.toWellFormed()),
          ])
            expect(redact(before + form + after)).not.toContain(form);
        },
      ),
    );
  });

  it('is taken out wherever it stands, of every length, and the rest of the text is there once', () => {
    const letters = [
      ...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&+,-./:;<=>?@[]^_{|}~',
    ];
    const login = fc
      .integer({ min: 5, max: 40 })
      .chain((length) =>
        fc.string({ unit: fc.constantFrom(...letters), minLength: length, maxLength: length }),
      );
    // Nothing of which is in a form of a login.
    const rest = fc.constantFrom('', '(', ')) (( ');
    fc.assert(
      fc.property(login, rest, rest, (told, before, after) => {
        keepSecret(told);
        const forms = [told, encodeURIComponent(told), JSON.stringify(told).slice(1, -1), told.toUpperCase()];
        forms.push(Buffer.from(told).toString('hex'));
        if (told.length > 12) forms.push(told.slice(0, 12));
        for (const form of forms) expect(redact(before + form + after)).toBe(`${before}***${after}`);
        // The last character of base64 need not be the login's alone.
        const out = redact(before + Buffer.from(told).toString('base64') + after);
        expect(out.replace(/[^*()\s]?=*(?=[()\s]*$)/, '')).toBe(`${before}***${after}`);
      }),
      { numRuns: 500 },
    );
  });

  it('is taken out of any text also where little is left of it without what may break a secret', () => {
    const breaking = fc.constantFrom(...'%\\ \t\n\u0001\u200b');
    const few = fc.array(fc.constantFrom(...'ab1x"'), { minLength: 1, maxLength: 4 });
    const login = fc
      .tuple(few, fc.array(breaking, { minLength: 4, maxLength: 12 }))
      .chain(([left, right]) => fc.shuffledSubarray([...left, ...right], { minLength: 5 }))
      .map((characters) => characters.join(''));
    const quoted = (text: string) => JSON.stringify(text).slice(1, -1);
    const inUrl = (text: string) => Buffer.from(text).toString('hex').replace(/../g, '%$&');
    fc.assert(
      fc.property(login, (told) => {
        keepSecret(told);
        const forms = [told, told.toUpperCase(), quoted(told), quoted(quoted(told)), inUrl(told)];
        forms.push(inUrl(inUrl(told)), quoted(inUrl(told)), encodeURIComponent(quoted(told)));
        for (const form of forms) expect(redact(`(${form})`)).toMatch(/^\((\*\*\*)+\)$/);
      }),
      { numRuns: 500 },
    );
  });

  it.each(['%%%%%%%%ab1', '5222%', '1 2 3 4', 'pa%ss', 'a b c', 'C:\\x\\'])(
    'is taken out where it is %s, and no other word is',
    (told) => {
      keepSecret(told);
      expect(redact(`you sent ${told}, robot of pass, 522 and abc`)).toBe(
        'you sent ***, robot of pass, 522 and abc',
      );
    },
  );

  it('is taken out whole, also where it repeats its own beginning', () => {
    keepSecret('abababababababab-end');
    expect(redact('abababababababababab-end')).toBe('***');
  });

  it('is taken out in time, however many share a long beginning, and with all that follows it', () => {
    for (let count = 0; count < 500; count += 1) keepSecret(`${'a'.repeat(4000)}${count}`);
    const started = performance.now();
    expect(redact(`you sent ${'a'.repeat(4000)}17, robot`)).toMatch(/^you sent \*\*\*, robot$/);
    redact('a'.repeat(100_000));
    redact(`${'a'.repeat(200)} `.repeat(500));
    expect(performance.now() - started).toBeLessThan(30_000);
  });

  it.each([
    ['straße-nach-hause', 'STRASSE-NACH-HAUSE'],
    ['STRAẞE-nach-hause', 'straße-nach-hause'],
    ['maß-1', 'MASS-1'],
    ['Ὀδυσσεύς', 'ὈΔΥΣΣΕΎΣ'],
    ['ﬁsh&chips', 'FISH&CHIPS'],
    ['hunter😀2correct', String.raw`hunter\U0001f6002correct`],
    ['hunter😀2correct', String.raw`HUNTER\\U0001F6002CORRECT`],
    ['a😀€-z', String.raw`a\U0001f600\u20ac-z`],
    ['line\nfeed-me', String.raw`line\u000afeed-me`],
  ])('is taken out, and nothing else is, where %s was told as %s', (login, told) => {
    keepSecret(login);
    expect(redact(`ß "${told}" ß`)).toBe('ß "***" ß');
  });

  it.each([
    ['among the last characters', 'x'.repeat(300)],
    ['far from where the other one begins', 'x'.repeat(5000)],
  ])('is taken out where it begins amid another one that is long, %s', (_, row) => {
    keepSecret('x'.repeat(300));
    keepSecret(`${'x'.repeat(20)}!pw#1-secret`);
    expect(redact(`[${row}!pw#1-secret]`)).toBe('[***]');
  });

  it.each([
    ['a sentence', `${'long '.repeat(60)}and "the end", too`],
    ['what is amid a character after 256', `${'0123456789abcdef'.repeat(16).slice(1)}😀(the end)`],
    ['what is only unusual at its end', `${'0123456789abcdef'.repeat(20)}!the end`],
  ])('is taken out to its end where it is long, %s', (_, told) => {
    keepSecret(told);
    for (const form of [
      told,
      encodeURIComponent(told),
      JSON.stringify(told),
      Buffer.from(told).toString('hex'),
    ])
      expect(redact(`you sent ${form}`)).toMatch(/^you sent "?\*\*\*$/);
  });

  it('hides all that follows where it is long and may go on there, whatever else begins alike', () => {
    const beginning = 'fedcba9876543210'.repeat(17);
    for (const end of ['-of-a-token', ' of (a login)', '-of-another-token']) keepSecret(`${beginning}${end}`);
    expect(redact(`you sent ${beginning} of (a login), robot`)).toBe('you sent ***');
  });

  it('ends at white space where it is a long token, and the words that follow stay', () => {
    const token = 'Zm9v_YmFy.cXV4-'.repeat(40);
    keepToken(token);
    keepSecret('horse-battery');
    const forms = [token, encodeURIComponent(token), Buffer.from(token).toString('hex')];
    forms.push(Buffer.from(token).toString('base64'), token.slice(0, 400), token.slice(0, 256));
    for (const form of forms) {
      expect(redact(`invalid token ${form} please log in again`)).toBe(
        'invalid token *** please log in again',
      );
      expect(redact(`"${form}"\nnot horse-battery ${form}\tnor ${form}`)).toBe('"***"\nnot *** ***\tnor ***');
    }
  });

  it('is none where somebody else calls a word one that everybody uses', () => {
    for (const word of ['sha256', 'docker.io', 'ERR_CONNECTION']) keepToken(word);
    const message = 'ERR_CONNECTION docker.io/library/nginx sha256:abc';
    expect(redact(message)).toBe(message);
    keepToken('a-token-of-many-characters');
    expect(redact('a-token-of-many-characters')).toBe('***');
  });

  it('is known for as long as it is used, however many there are', () => {
    for (let count = 0; count < 2000; count += 1) {
      keepSecret('used-all-the-time');
      keepSecret(`token-number-${count}-of-many`);
    }
    expect(redact('used-all-the-time, token-number-1999-of-many')).toBe('***, ***');
  });
});
