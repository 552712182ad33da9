/** Route templates of HTTP triggers: literals, `{name}`, and `{name?}` or `{*rest}` at the end. */

export type RouteParams = Readonly<Record<string, string>>;

type Segment =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'parameter'; readonly name: string; readonly optional: boolean }
  | { readonly kind: 'rest'; readonly name: string };

export class Route {
  readonly #segments: readonly Segment[];
  /** How much of the path the template fixes: of two routes that match, the one with more literals wins. */
  readonly literals: number;

  constructor(template: string) {
    this.#segments = template.split('/').filter(Boolean).map(segmentOf);
    this.literals = this.#segments.filter(({ kind }) => kind === 'literal').length;
  }

  /** The parameters of a path that fits; `undefined` for any other. */
  match(path: string): RouteParams | undefined {
    const parts = path.split('/').filter(Boolean);
    const params: Record<string, string> = {};
    for (const segment of this.#segments) {
      const part = parts.shift();
      if (segment.kind === 'literal') {
        if (part?.toLowerCase() !== segment.text.toLowerCase()) return undefined;
      } else if (segment.kind === 'rest') {
        params[segment.name] = [part ?? '', ...parts.splice(0)].map(decodeURIComponent).join('/');
      } else if (part !== undefined) {
        params[segment.name] = decodeURIComponent(part);
      } else if (!segment.optional) return undefined;
    }
    return parts.length === 0 ? params : undefined;
  }
}

function segmentOf(text: string): Segment {
  const [, rest, name = '', optional] = /^\{(\*)?(\w+)(\?)?\}$/.exec(text) ?? [];
  if (rest) return { kind: 'rest', name };
  if (name) return { kind: 'parameter', name, optional: optional !== undefined };
  if (/[{}]/.test(text)) throw new Error(`The route segment "${text}" is not supported here.`);
  return { kind: 'literal', text };
}
