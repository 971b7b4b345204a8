/** Elements from plain values. Text becomes text nodes, never HTML, whoever wrote it. */
export type Child = Node | string | number | null | undefined | false | readonly Child[];
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>;

function append(parent: Element, child: Child): void {
  if (child === null || child === undefined || child === false) return;
  if (Array.isArray(child)) for (const each of child) append(parent, each);
  else parent.append(child instanceof Node ? child : String(child));
}

/** An element. A function is a listener of the event that its attribute is named after; true and false give or leave out an attribute. */
export function el<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Attributes = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') made.addEventListener(name, value);
    else if (name === 'value') (made as unknown as HTMLInputElement).value = String(value);
    else made.setAttribute(name, value === true ? '' : String(value));
  }
  append(made, children);
  return made;
}

/** Puts these in the place of all that an element holds. */
export function fill(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  append(parent, children);
}

const xml = new DOMParser();

/** A drawing of our own, from its text. */
export function svg(text: string): Node {
  return document.importNode(xml.parseFromString(text, 'image/svg+xml').documentElement, true);
}

/** Code in color: a line is pieces of text, each with its kind. */
type Lines = readonly (readonly (readonly [kind: string, text: string])[])[];

/** The lines as plain text. */
export const textsOf = (lines: Lines): string[] => lines.map((line) => line.map(([, text]) => text).join(''));

/** A shader or other code in color, with a line that is marked and shown. */
export function code(lines: Lines, marked: number | null = null): HTMLElement {
  const made = el('pre', { class: 'code', tabindex: 0 });
  for (const [i, line] of lines.entries()) {
    const spans = line.map(([kind, text]) => (kind ? el('span', { class: kind }, text) : text));
    made.append(el('span', { class: i + 1 === marked ? 'line marked' : 'line', 'data-line': i + 1 }, spans, '\n'));
  }
  if (marked !== null)
    requestAnimationFrame(() => {
      const line = made.querySelector<HTMLElement>('.marked');
      if (line) made.scrollTop = line.offsetTop - made.offsetTop - made.clientHeight / 3;
    });
  return made;
}

/** A table with a line of titles; rows are made by who has them. */
export function table(titles: readonly string[], rows: Child, className: string | null = null): HTMLTableElement {
  const head = titles.map((title) => el('th', {}, title));
  return el('table', { class: className }, el('thead', {}, el('tr', {}, head)), el('tbody', {}, rows));
}

/** A row of plain cells. */
export function row(cells: readonly Child[], className: string | null = null): HTMLTableRowElement {
  const made = cells.map((cell) => el('td', {}, cell));
  return el('tr', { class: className }, made);
}

export function download(name: string, text: string, type = 'application/json'): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export const percent = (share: number, digits = 1): string => `${(100 * share).toFixed(digits)} %`;

/** Milliseconds as a table shows them. */
export const milliseconds = (ms: number): string => (ms >= 100 ? ms.toFixed(0) : ms >= 1 ? ms.toFixed(2) : ms.toFixed(3));

export const reducedMotion = (): boolean => matchMedia('(prefers-reduced-motion: reduce)').matches;
