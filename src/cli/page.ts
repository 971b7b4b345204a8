/** What the pages of demo and gallery share: their look, and a picture over its word. */
import escapeHtml from 'escape-html';
import { printable } from '../printable.ts';

/** Text from outside in a page: without control characters, and with the marks of HTML escaped. */
export const inPage = (text: string): string => escapeHtml(printable(text));

export const PAGE_STYLE = `
body{background:#14171c;color:#e8eaed;font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:84rem;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.25rem;margin:1.6rem 0 .2rem}h3{font-size:1.05rem;margin:0 0 .2rem}section{background:#1c2027;border-radius:.6rem;padding:1rem;margin:1rem 0}
section h2{font-size:1.05rem;margin:0 0 .2rem}p{margin:.2rem 0 .6rem}.row{display:flex;flex-wrap:wrap;gap:.6rem}figure{margin:0;text-align:center}
img{height:96px;border-radius:.3rem;display:block}.large img{height:200px}figcaption{font-size:.85rem}small,.dim{color:#9aa3ad}.right{color:#6fd08c}.wrong,.warning{color:#ff8a7a}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem}dt{color:#9aa3ad}dd{margin:0}svg{width:100%;max-width:640px}text{fill:#9aa3ad;font-size:11px}
.large{display:flex;gap:1.2rem;margin-bottom:.8rem;flex-wrap:wrap}.large div{flex:1;min-width:18rem}ul{margin:.2rem 0;padding-left:1.2rem}table{border-collapse:collapse;font-size:.9rem}td,th{padding:.1rem .6rem .1rem 0;text-align:left}
`;

/** `source` is a data URL; `probability` is shown when given. */
export function figure(source: string, alternative: string, caption: string, probability?: number): string {
  const share = probability === undefined ? '' : ` <small>${(100 * probability).toFixed(0)} %</small>`;
  return `<figure><img src="${source}" alt="${inPage(alternative)}"><figcaption>${inPage(caption)}${share}</figcaption></figure>`;
}
