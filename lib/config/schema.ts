/** The form of `sync.yaml`: what can be said of a value on its own. What values mean together is in `assemble.ts`. */
import * as z from 'zod';
import { durationShape, parseDuration, parseSize, sizeShape } from './quantity.ts';
import { unknownKey, unknownKeyOfLogin } from './unknown-key.ts';

const mebibyte = 1024 * 1024;

/** A map of known keys. Each unknown one is told in a line of its own, with the nearest known one. */
function record<Shape extends z.ZodRawShape>(shape: Shape, tell = unknownKey) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => tell(key, known)).join('\n')
        : 'a map of keys',
  });
}

function text(expected: string) {
  return z.string({ error: expected }).min(1, expected);
}

function flag() {
  return z.boolean({ error: 'true or false' });
}

const durationText = 'a duration such as 90s, 12h or 30d';
const duration = z
  .string({ error: durationText })
  .regex(durationShape, durationText)
  .transform((value) => parseDuration(value) ?? 0);

const minChunk = 1024;
const maxChunk = 1024 * mebibyte;
const chunkText = 'a size from 1KiB to 1GiB';
const sizeText = 'a size in bytes, or one such as 8MiB';
const size = z
  .union([
    z.int({ error: sizeText }).min(minChunk, chunkText).max(maxChunk, chunkText),
    z.string({ error: sizeText }).regex(sizeShape, sizeText),
  ])
  .transform((value) => (typeof value === 'number' ? value : (parseSize(value) ?? 0)))
  .refine((bytes) => bytes >= minChunk && bytes <= maxChunk, chunkText);

const urlText = 'a URL that begins with https:// or http://, without user, query or fragment';
const baseUrl = z
  .string({ error: urlText })
  .regex(/^[Hh][Tt][Tt][Pp][Ss]?:\/\/[^\s/?#@]+(?:\/[^\s?#@]*)?$/, { error: urlText, abort: true })
  .refine((value) => URL.canParse(value), urlText)
  .transform((value) => value.replace(/\/+$/, ''));

/** Of Azure Container Registry, by cloud. A token for anything else would let its receiver act there as this identity. */
const audiences = [
  'https://containerregistry.azure.net',
  'https://containerregistry.azure.us',
  'https://containerregistry.azure.cn',
] as const;

const registryShape = {
  kind: z
    .enum(['dockerhub', 'acr', 'oci'], { error: 'one of dockerhub, acr and oci' })
    .describe('What the registry is. Default: by its host name.')
    .optional(),
  endpoint: baseUrl
    .describe('Base URL of the distribution API, and of /oauth2 and /acr/v1. Default: https://<host>.')
    .optional(),
  hubApi: baseUrl.describe('Base URL of the web API of Docker Hub. Only for kind dockerhub.').optional(),
  username: text('text').describe('User name. A variable is written $NAME, a dollar $$.').optional(),
  password: text('text').describe('Password or token. A variable is written $NAME, a dollar $$.').optional(),
  identity: flag()
    .describe('Log in with the Azure identity. Only for kind acr. Default: true when no username is given.')
    .optional(),
  audience: z
    .enum(audiences, { error: `one of ${audiences.join(', ')}` })
    .describe('The Entra audience. Only for kind acr. Default: https://containerregistry.azure.net.')
    .optional(),
  skipTlsVerify: flag().describe('Accept any certificate.').default(false),
  ca: text('the path of a PEM file')
    .describe('Path of a PEM file with a certificate authority to trust.')
    .optional(),
  chunkSize: size
    .describe('Largest body of one upload request, such as 8MiB. For kind acr at most 16MiB.')
    .optional(),
};
const registrySchema = record(registryShape, unknownKeyOfLogin);
/** What a login may stand beside. */
export const keysOfRegistry: readonly string[] = Object.keys(registryShape);

const patternText = 'a glob such as v*, or a regular expression between slashes';
const patterns = z.array(text(patternText), { error: 'a list of globs or /regular expressions/' }).max(500);

const filterSchema = record({
  include: patterns
    .min(1, 'at least one pattern; leave the key out for every tag')
    .describe('Take only these tags: globs (*, ?, […]) or /RE2 expressions/ over the whole name.')
    .optional(),
  exclude: patterns
    .describe('Leave these tags out: globs or /RE2 expressions/ over the whole name.')
    .optional(),
  semver: text('a version range such as ">=1.2 <3"')
    .describe('Take only versions in this range, such as ">=1.2 <3". A tag that is no version is not taken.')
    .optional(),
  prerelease: flag().describe('Let semver take prereleases that its range does not name.').default(false),
  newest: z
    .int({ error: 'a whole number of at least 1' })
    .min(1, 'a whole number of at least 1')
    .describe('Take only the N newest of what the other filters leave.')
    .optional(),
  pushedWithin: duration.describe('Take only tags pushed within this time. Only for Docker Hub.').optional(),
  minimumAge: duration.describe('Wait this long before a push is trusted. Only for Docker Hub.').optional(),
});

/** Of one rule. */
export const maxTargets = 1000;
const repositoryText = 'a reference such as docker.io/library/nginx:1.27';
const targetText = 'a reference such as example.azurecr.io/nginx, or a list of them';

const ruleSchema = record({
  name: z
    .string({ error: 'text' })
    .regex(/^\P{C}{1,500}$/u, 'a name of 1 to 500 printable characters')
    .describe('Name of the rule, unique. Default: source and target.')
    .optional(),
  source: text(repositoryText).describe(
    'repo, repo:tag, repo:t1,t2, repo:GLOB, repo:/regex/, repo@digest, or docker.io/namespace/*.',
  ),
  target: z
    .union(
      [
        text(targetText),
        z.array(text(targetText)).min(1, targetText).max(maxTargets, `at most ${maxTargets} targets`),
      ],
      {
        error: targetText,
      },
    )
    .describe('Where it goes: repo, repo:tag, repo:t1,t2 or the same repo:GLOB; or a list of targets.'),
  tags: filterSchema.describe('Which tags of the source. Default: every tag.').optional(),
  platforms: z
    .array(text('a platform such as linux/amd64'), { error: 'a list of platforms such as linux/amd64' })
    .min(1, 'at least one platform; leave the key out for all')
    .max(100, 'at most 100 platforms')
    .describe('Platforms to keep of an index. Default: all, and the index keeps its digest.')
    .optional(),
  referrers: flag().describe('Copy signatures, attestations and SBOMs as well.').default(true),
  prune: flag()
    .describe('Delete target tags that this rule copied and the source no longer has.')
    .default(false),
  overwrite: flag().describe('With false, a tag once mirrored never moves.').default(true),
});

/** The whole file. */
export const syncFileSchema = record({
  $schema: text('the address of a JSON Schema').describe('For editors.').optional(),
  version: z.literal(1, { error: 'the number 1' }).describe('Version of the format.').default(1),
  registries: z
    .record(z.string(), registrySchema, { error: 'a map from host[:port][/namespace] to settings' })
    .describe('Settings by host[:port][/namespace]; the longest match wins.')
    .optional(),
  rules: z
    .array(ruleSchema, { error: 'a list of rules' })
    .max(10_000, 'at most 10000 rules')
    .describe('What is mirrored where.'),
});

/** The file as SOURCE TARGET uses it: for `registries`. */
export const registriesFileSchema = syncFileSchema.partial({ rules: true });

export type SyncFile = z.output<typeof syncFileSchema>;
export type RegistryForm = z.output<typeof registrySchema>;
export type RuleForm = z.output<typeof ruleSchema>;

/** A JSON Schema of `sync.yaml`, by which editors complete and check it. */
export function rulesJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(syncFileSchema, { io: 'input', target: 'draft-07' });
  return { ...schema, title: 'hubferry rules file' };
}
