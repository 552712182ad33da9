/** Builds elements, and brings what the page shows in line with them. Texts become text nodes: nothing here parses markup. */

export type Child = Node | string | undefined;
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

const svgNamespace = 'http://www.w3.org/2000/svg';

/** An element by its name; attributes that are `undefined` or `false` are left out. */
export function h(name: string, attributes: Attributes = {}, ...children: readonly Child[]): HTMLElement {
  return furnish(document.createElement(name), attributes, children);
}

/** The same for what is drawn. */
export function s(name: string, attributes: Attributes = {}, ...children: readonly Child[]): SVGElement {
  return furnish(document.createElementNS(svgNamespace, name) as SVGElement, attributes, children);
}

function furnish<T extends Element>(element: T, attributes: Attributes, children: readonly Child[]): T {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false)
      element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`The page has no #${id}`);
  return element;
}

/**
 * Makes the children of `place` look like `wanted`, and keeps the elements that are there: so the focus, an opened
 * `details` and a selection outlive an update. Elements with `data-key` find themselves again wherever they stand.
 */
export function show(place: Element, wanted: readonly Child[]): void {
  let at = place.firstChild;
  for (const child of wanted) {
    if (child === undefined) continue;
    const node = typeof child === 'string' ? document.createTextNode(child) : child;
    const same = findSame(at, node);
    if (same === undefined) {
      place.insertBefore(node, at);
      continue;
    }
    while (at !== null && at !== same) at = removed(at);
    update(same, node);
    at = same.nextSibling;
  }
  while (at !== null) at = removed(at);
}

function removed(node: ChildNode): ChildNode | null {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function findSame(from: ChildNode | null, wanted: Node): ChildNode | undefined {
  const key = keyOf(wanted);
  for (let node = from; node !== null; node = node.nextSibling) {
    if (node.nodeName === wanted.nodeName && keyOf(node) === key) return node;
    if (key === undefined) return undefined;
  }
  return undefined;
}

function keyOf(node: Node): string | undefined {
  return node instanceof HTMLElement ? node.dataset.key : undefined;
}

function update(node: ChildNode, wanted: Node): void {
  if (!(node instanceof Element) || !(wanted instanceof Element)) {
    if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
    return;
  }
  for (const { name } of [...node.attributes]) {
    // Whether it is open is the reader's choice.
    if (name !== 'open' && !wanted.hasAttribute(name)) node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  show(node, [...wanted.childNodes]);
}
