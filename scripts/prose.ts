/**
 * Lists the sentences of more than 25 words in docs and comments: `npx tsx scripts/prose.ts [PATH…]`. Exits with 1 if there are any.
 *
 * Without a path it reads README.md, CONTRIBUTING.md, docs/, the comments of src/, and the leading comments of its shaders.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';

export const MOST_WORDS = 25;

const ROOT = join(import.meta.dirname, '..');
const EVERYTHING = ['README.md', 'CONTRIBUTING.md', 'docs', 'src'];

export interface LongSentence {
  /** Where it begins, from 1. */
  line: number;
  words: number;
  sentence: string;
}

/** A line of prose, without the marks of its comment. */
interface Line {
  number: number;
  text: string;
}

// ── Lines of prose, in runs that belong together ──

/** The text of a block comment, line by line. Indentation beyond the one space after a star stays. */
function blockLines(comment: string, first: number): Line[] {
  const inner = comment.replace(/^\/\*+/, '').replace(/\*+\/$/, '');
  return inner.split('\n').map((text, i) => ({ number: first + i, text: text.replace(/^\s*\*(?= |$)/, '').replace(/^ /, '') }));
}

const lineText = (comment: string) => comment.replace(/^\/\/\/?/, '').replace(/^ /, '');

/** The comments of a TypeScript file. Line comments below one another, each alone on its line, are one text. */
function commentsOf(path: string, text: string): Line[][] {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, false);
  const found = new Map<number, ts.CommentRange>();
  const visit = (node: ts.Node) => {
    for (const range of ts.getLeadingCommentRanges(text, node.pos) ?? []) found.set(range.pos, range);
    for (const range of ts.getTrailingCommentRanges(text, node.pos) ?? []) found.set(range.pos, range);
    for (const child of node.getChildren(source)) if (!ts.isJSDoc(child)) visit(child);
  };
  visit(source);
  const runs: Line[][] = [];
  let before: { line: number; alone: boolean } | null = null;
  for (const { pos, end, kind } of [...found.values()].sort((a, b) => a.pos - b.pos)) {
    const line = source.getLineAndCharacterOfPosition(pos).line + 1;
    const comment = text.slice(pos, end);
    if (kind === ts.SyntaxKind.MultiLineCommentTrivia) {
      runs.push(blockLines(comment, line));
      before = null;
      continue;
    }
    const alone = text.slice(text.lastIndexOf('\n', pos) + 1, pos).trim() === '';
    const own = { number: line, text: lineText(comment) };
    if (alone && before?.alone && before.line === line - 1) runs[runs.length - 1].push(own);
    else runs.push([own]);
    before = { line, alone };
  }
  return runs;
}

/** The comment at the head of a shader. */
function headOf(text: string): Line[] {
  const lines = text.split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  return lines.slice(0, end < 0 ? lines.length : end).map((line, i) => ({ number: i + 1, text: lineText(line) }));
}

// ── Paragraphs ──

const ITEM = /^\s*(?:[-*]|\d+\.) /;

/** Paragraphs and list items, without code, formulas that stand apart, tables and markup that is no text. */
function paragraphs(lines: readonly Line[], indentIsCode: boolean): Line[][] {
  const found: Line[][] = [];
  let open: Line[] | null = null;
  let fenced = false;
  let inItem = false;
  for (const line of lines) {
    const text = line.text.trimEnd();
    if (/^\s*(```|~~~)/.test(text)) {
      fenced = !fenced;
      open = null;
    } else if (fenced) {
      // Code is no prose.
    } else if (text.trim() === '') open = null;
    else if (/^\s*(\||<|──|\[[^\]]+\]: )/.test(text)) open = null;
    else if (ITEM.test(text)) {
      found.push((open = [{ ...line, text: text.replace(ITEM, '') }]));
      inItem = true;
    } else if (/^#{1,6} /.test(text)) {
      found.push([{ ...line, text: text.replace(/^#+ /, '') }]);
      open = null;
    } else if (indentIsCode && /^ {2}/.test(text) && !(open && inItem)) open = null;
    else if (open && !/^@\w/.test(text)) open.push(line);
    else {
      found.push((open = [line]));
      inItem = false;
    }
    if (open === null) inItem = false;
  }
  return found;
}

// ── Sentences and their words ──

const CODE = '\u0001';
/** A citation in parentheses, such as (Xu and others 2015). */
const CITATION = /\(\p{Lu}[^()]*\b(?:19|20)\d\d\b[^()]*\)/gu;
const ABBREVIATION = /(?:^|[\s(])(?:e\.g|i\.e|et al|vs|cf|resp)\.$/;
/** Stands between the parts of a formula, or within one. */
const OPERATOR = /[=+−·×÷√ΣΠ<>≤≥≈^∂∈←→*/|]/;

/** The text as it is read: code as one sign, links as their text, no emphasis. Codes in order, to show them again. */
function readable(text: string): { text: string; codes: string[] } {
  const codes: string[] = [];
  const plain = text
    .replace(/`[^`]+`/g, (code) => {
      codes.push(code);
      return CODE;
    })
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/<[^<>]*>/g, ' ')
    .replace(/https?:\/\/\S+/g, '')
    .replace(/\*\*/g, '');
  return { text: plain, codes };
}

/** Words of a sentence. Numbers, formulas and citations are none; a piece of code is one, and so is a list of such pieces. */
export function countWords(sentence: string): number {
  const { text } = readable(sentence);
  const tokens = text
    .replace(CITATION, ' ')
    .replace(new RegExp(`${CODE}(?:(?:, | and | or |, and |, or )${CODE})+`, 'g'), CODE)
    .split(/[\s—]+/)
    .filter(Boolean);
  const isOperator = tokens.map((token) => !/[\p{L}\d]/u.test(token) && OPERATOR.test(token));
  return tokens.filter((token, i) => {
    if (token.includes(CODE)) return true;
    const bare = token.replace(/^[^\p{L}\d]+|[^\p{L}\d]+$/gu, '');
    if (!/\p{L}/u.test(bare)) return false;
    if (/^\p{L}$/u.test(bare) && !/^[aAI]$/.test(bare)) return false;
    if (isOperator[i - 1] || isOperator[i + 1]) return false;
    return !/[=+−·×√Σ<>≤≥^_[\]()]/.test(bare) || /^\p{L}+\(s\)$/u.test(bare);
  }).length;
}

/** Cuts a paragraph into sentences, each with the line it begins on. */
function sentences(paragraph: readonly Line[]): { line: number; sentence: string }[] {
  const whole = paragraph.map(({ text }) => text.trim()).join('\n');
  const { text, codes } = readable(whole);
  const found: { line: number; sentence: string }[] = [];
  let start = 0;
  let line = paragraph[0].number;
  let code = 0;
  const take = (end: number) => {
    const raw = text.slice(start, end);
    const shown = raw.replaceAll(CODE, () => codes[code++]);
    const lead = shown.length - shown.trimStart().length;
    const begin = line + shown.slice(0, lead).split('\n').length - 1;
    if (shown.trim()) found.push({ line: begin, sentence: shown.trim().replace(/\s+/g, ' ') });
    line += shown.split('\n').length - 1;
    start = end;
  };
  for (const match of text.matchAll(/(?<=\S)[.!?]["'”’)\]*]*(?=\s)/g)) {
    const end = match.index + match[0].length;
    if (!ABBREVIATION.test(text.slice(0, match.index + 1))) take(end);
  }
  take(text.length);
  return found;
}

/** Sentences of more than `MOST_WORDS` words in a text: markdown, TypeScript or WGSL by the path's ending. */
export function longSentences(path: string, text: string): LongSentence[] {
  const isMarkdown = path.endsWith('.md');
  const runs = isMarkdown
    ? [text.split('\n').map((line, i) => ({ number: i + 1, text: line }))]
    : path.endsWith('.wgsl')
      ? [headOf(text)]
      : commentsOf(path, text);
  return runs
    .flatMap((run) => paragraphs(run, !isMarkdown))
    .flatMap(sentences)
    .map(({ line, sentence }) => ({ line, words: countWords(sentence), sentence }))
    .filter(({ words }) => words > MOST_WORDS);
}

/** The files of prose among some paths, folders walked. */
export function proseFiles(paths: readonly string[]): string[] {
  const isProse = (name: string) => /\.md$/.test(name) || /\.ts$/.test(name) || /\.wgsl$/.test(name);
  return paths.flatMap((path) => {
    if (!statSync(path).isDirectory()) return [path];
    return readdirSync(path, { recursive: true, encoding: 'utf8' })
      .filter(isProse)
      .map((name) => join(path, name))
      .sort();
  });
}

function main(): void {
  const given = process.argv.slice(2);
  const paths = given.length > 0 ? given : EVERYTHING.map((name) => join(ROOT, name)).filter(existsSync);
  let count = 0;
  for (const file of proseFiles(paths))
    for (const { line, words, sentence } of longSentences(file, readFileSync(file, 'utf8'))) {
      console.log(`${relative('.', file)}:${line}  ${words}  ${sentence}`);
      count++;
    }
  console.log(count === 0 ? `no sentence has more than ${MOST_WORDS} words` : `${count} sentences have more than ${MOST_WORDS} words`);
  process.exitCode = count === 0 ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main();
