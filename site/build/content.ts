/**
 * What the pages show and no script should have to make in the browser: equations as MathML, shaders in color, the course as HTML.
 * Each is a virtual module, made from the project's own files when the site is built.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import MarkdownIt from 'markdown-it';
import { createCssVariablesTheme, createHighlighter, type Highlighter } from 'shiki';
import temml from 'temml';
import type { Plugin } from 'vite';
import { EQUATIONS } from '../../src/study/equations.ts';
import { OP_EQUATIONS } from '../../src/study/op_equations.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SHADERS = `${ROOT}src/kernels/wgsl/`;
const COURSE = `${ROOT}docs/course/`;

/** A line of code: pieces of text, each with the kind that its color stands for ('' for plain text). */
export type ColoredLine = [kind: string, text: string][];

const theme = createCssVariablesTheme({ name: 'css-variables', variablePrefix: '--code-', fontStyle: false });
let highlighter: Promise<Highlighter> | null = null;
const loaded = () => (highlighter ??= createHighlighter({ themes: [theme], langs: ['wgsl', 'typescript', 'shellscript'] }));

async function colored(code: string, lang: string): Promise<ColoredLine[]> {
  const { tokens } = (await loaded()).codeToTokens(code.trimEnd(), { lang: lang as 'wgsl', theme: 'css-variables' });
  return tokens.map((line) =>
    line.reduce<ColoredLine>((pieces, { content, color = '' }) => {
      const kind = /--code-(?:token-)?([\w-]+)/.exec(color)?.[1] ?? '';
      const plain = kind === 'foreground' ? '' : kind;
      const last = pieces[pieces.length - 1];
      if (last && (last[0] === plain || content.trim() === '')) last[1] += content;
      else pieces.push([plain, content]);
      return pieces;
    }, []),
  );
}

function equations(): Record<string, string> {
  const texts = new Set<string>();
  for (const { tex, names } of EQUATIONS) for (const each of [tex, ...names]) if (each) texts.add(each);
  for (const { forward, gradient } of Object.values(OP_EQUATIONS)) for (const each of [forward, gradient]) if (each) texts.add(each);
  return Object.fromEntries([...texts].map((tex) => [tex, temml.renderToString(tex, { throwOnError: true, displayMode: false, xml: true })]));
}

const chapters = () =>
  readdirSync(COURSE)
    .filter((name) => /^\d+-.*\.md$/.test(name))
    .map((name) => ({ slug: name.slice(0, -3), title: /^# (.*)$/m.exec(readFileSync(`${COURSE}${name}`, 'utf8'))?.[1] ?? name }));

/** Where a link of a chapter leads on the site; null for files of the repository that the site does not show. */
function target(href: string): string | null {
  const chapter = /^(\d+-[\w-]+)\.md$/.exec(href)?.[1];
  if (chapter) return `#/course/${chapter}`;
  const shader = /kernels\/wgsl\/(\w+)\.wgsl$/.exec(href)?.[1];
  if (shader) return `#/kernels?shader=${shader}`;
  return href.startsWith('#') ? href : null;
}

/** A chapter as a module: its HTML, with pictures that the bundler knows. */
async function chapterModule(slug: string): Promise<string> {
  const source = readFileSync(`${COURSE}${slug}.md`, 'utf8');
  const markdown = new MarkdownIt({ html: false, linkify: false });
  const pictures: string[] = [];
  const blocks = new Map<string, string>();
  const { escapeHtml } = markdown.utils;
  for (const token of markdown.parse(source, {})) {
    if (token.type !== 'fence') continue;
    const lang = { wgsl: 'wgsl', ts: 'typescript', sh: 'shellscript' }[token.info.trim()];
    if (!lang) continue;
    const lines = await colored(token.content, lang);
    const html = lines.map((line) => line.map(([kind, text]) => (kind ? `<span class="${kind}">${escapeHtml(text)}</span>` : escapeHtml(text))).join(''));
    blocks.set(token.content, `<pre class="code"><code>${html.join('\n')}</code></pre>`);
  }
  markdown.renderer.rules.fence = (tokens, i) => blocks.get(tokens[i].content) ?? `<pre class="code"><code>${escapeHtml(tokens[i].content)}</code></pre>`;
  markdown.renderer.rules.image = (tokens, i) => {
    pictures.push(String(tokens[i].attrGet('src') ?? ''));
    return `<img src="@picture${pictures.length - 1}@" alt="${escapeHtml(tokens[i].content)}">`;
  };
  markdown.renderer.rules.link_open = (tokens, i) => {
    const href = String(tokens[i].attrGet('href') ?? '');
    const to = target(href);
    return to ? `<a href="${escapeHtml(to)}">` : `<a class="file" title="${escapeHtml(href.replace(/^(\.\.\/)+/, ''))}">`;
  };
  const html = markdown.render(source);
  const imports = pictures.map((name, i) => `import p${i} from ${JSON.stringify(`${COURSE}${name}?url`)};`);
  const pieces = html.split(/@picture(\d+)@/).map((piece, i) => (i % 2 === 0 ? JSON.stringify(piece) : `p${piece}`));
  return `${imports.join('\n')}\nexport default ${pieces.join(' + ')};`;
}

export function content(): Plugin {
  const load: Readonly<Record<string, (rest: string) => string | Promise<string>>> = {
    equations: () => `export default ${JSON.stringify(equations())};`,
    wgsl: async (name) => {
      if (name) return `export default ${JSON.stringify(await colored(readFileSync(`${SHADERS}${name}.wgsl`, 'utf8'), 'wgsl'))};`;
      const names = readdirSync(SHADERS).map((file) => file.replace('.wgsl', ''));
      return `export default { ${names.map((each) => `${each}: () => import('virtual:wgsl/${each}')`).join(', ')} };`;
    },
    course: (slug) => {
      if (slug) return chapterModule(slug);
      const list = chapters().map((each) => `{ ...${JSON.stringify(each)}, load: () => import('virtual:course/${each.slug}') }`);
      return `export default [${list.join(', ')}];`;
    },
  };
  return {
    name: 'glimpse-content',
    resolveId: (id) => (id.startsWith('virtual:') ? `\0${id}` : null),
    load(id) {
      const [, kind, rest] = /^\0virtual:(\w+)\/?(.*)$/.exec(id) ?? [];
      return kind ? load[kind]?.(rest) : null;
    },
  };
}
