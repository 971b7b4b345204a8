/** Equations as MathML, typeset when the site was built. Only pages that show equations load them. */
import equations from 'virtual:equations';
import { el } from './dom.ts';

const xml = new DOMParser();

/** An equation; its TeX, where the build did not know it. */
export function math(tex: string): Node {
  const text = equations[tex];
  if (text === undefined) return el('code', {}, tex);
  return el('span', { class: 'math', title: tex }, document.importNode(xml.parseFromString(text, 'application/xml').documentElement, true));
}
