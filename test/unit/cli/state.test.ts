import { describe, expect, test } from 'vitest';
import { stateLocation } from '../../../lib/cli/state.ts';

const connectionString =
  'DefaultEndpointsProtocol=https;AccountName=mirror;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net';
const env = { AZURE_STORAGE_CONNECTION_STRING: connectionString };

test('without anything, the state is in .hubferry', () => {
  expect(stateLocation(undefined, {})).toEqual({ kind: 'folder', path: '.hubferry' });
});
test('the connection string of the environment is used when nothing else is said', () => {
  const variable = 'AZURE_STORAGE_CONNECTION_STRING';
  expect(stateLocation(undefined, env)).toEqual({ kind: 'connection', connectionString, variable });
});
test('a folder that is named wins over the environment', () => {
  expect(stateLocation('state', env)).toEqual({ kind: 'folder', path: 'state' });
});
test.each(['https://mirror.blob.core.windows.net', 'https://mirror.blob.core.windows.net/'])(
  '%s is an account with the Azure identity',
  (where) => {
    expect(stateLocation(where, {})).toEqual({
      kind: 'account',
      blobEndpoint: 'https://mirror.blob.core.windows.net',
    });
  },
);
test('the connection string is used for the account that it is for, and for no other', () => {
  expect(stateLocation('https://mirror.blob.core.windows.net', env)).toMatchObject({ kind: 'connection' });
  expect(stateLocation('https://other.blob.core.windows.net', env)).toMatchObject({ kind: 'account' });
});
test.each([
  'UseDevelopmentStorage=true',
  'AccountName=devstoreaccount1;AccountKey=x;BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1/;',
])('%s is for the local account', (local) => {
  const where = 'http://127.0.0.1:10000/devstoreaccount1';
  expect(stateLocation(where, { AZURE_STORAGE_CONNECTION_STRING: local })).toMatchObject({
    kind: 'connection',
  });
});
describe('a secret on the command line is refused, and not repeated', () => {
  test.each([
    connectionString,
    'https://mirror.blob.core.windows.net/?sig=c2VjcmV0',
    'https://me:c2VjcmV0@host/',
  ])('%s', (where) => {
    expect(() => stateLocation(where, {})).toThrow(
      expect.objectContaining({ code: 'ERR_USAGE', message: expect.not.stringContaining('c2VjcmV0') }),
    );
  });
});
