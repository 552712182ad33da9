/** What `POST /api/sync` and `POST /api/control` take. */
import * as z from 'zod';
import { HubferryError } from './errors.ts';

const manualSchema = z.strictObject({
  rules: z.array(z.string()).optional(),
  tags: z
    .array(z.string().regex(/^\w[\w.-]{0,127}$/, 'not a tag'))
    .max(1000)
    .optional(),
  dryRun: z.boolean().default(false),
  force: z.boolean().default(false),
});

const run = z.string().min(1).max(128);
const controlSchema = z.discriminatedUnion('action', [
  z.strictObject({ action: z.literal('pause') }),
  z.strictObject({ action: z.literal('resume') }),
  z.strictObject({ action: z.literal('cancel'), run }),
  z.strictObject({ action: z.literal('retry'), run }),
]);
export type Wish = z.infer<typeof controlSchema>;

export function parseManualRequest(body: string): z.infer<typeof manualSchema> {
  return parse(manualSchema, body);
}

export function parseControlRequest(body: string): Wish {
  return parse(controlSchema, body);
}

/** An empty body asks for the defaults. @throws ERR_REQUEST_INVALID */
function parse<T>(schema: z.ZodType<T>, body: string): T {
  let json: unknown;
  try {
    json = body.trim() === '' ? {} : JSON.parse(body);
  } catch {
    throw new HubferryError('ERR_REQUEST_INVALID', 'The body is no JSON');
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new HubferryError('ERR_REQUEST_INVALID', z.prettifyError(parsed.error));
}
