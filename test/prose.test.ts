/** Sentences in comments stay short (scripts/prose.ts), and the script finds one that is not. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { countWords, type LongSentence, longSentences, MOST_WORDS, proseFiles } from '../scripts/prose.ts';
import { temporaryFolder } from './support.ts';

const ROOT = join(import.meta.dirname, '..');
/** Files and folders without a long sentence. Add others once they pass. */
const COVERED = [
  ...['autograd', 'data', 'gpu', 'kernels', 'metrics', 'model', 'nn', 'platform', 'plot', 'tensor', 'tuning'].map((room) => `src/${room}`),
  ...['context', 'errors', 'index', 'node', 'options', 'random', 'web'].map((name) => `src/${name}.ts`),
  'scripts/prose.ts',
  'test/prose.test.ts',
];

const files = proseFiles(COVERED.map((path) => join(ROOT, path))).filter((path) => path.endsWith('.ts'));

test.each(files.map((path) => relative(ROOT, path)))('%s', (path) => {
  expect(longSentences(path, readFileSync(join(ROOT, path), 'utf8'))).toEqual([]);
});

/** So many words that end with a period. */
const words = (count: number) => `${Array.from({ length: count }, () => 'word').join(' ')}.`;
const [SHORT, LONG] = [words(MOST_WORDS), words(MOST_WORDS + 1)];

/** The lines and word counts that the script reports. */
const found = (path: string, text: string) => longSentences(path, text).map(({ line, words: count }: LongSentence) => [line, count]);

describe('the script', () => {
  test('covers every room it names', () => expect(files.length).toBeGreaterThan(90));

  test.each([
    ['a docstring', 'x.ts', `/** ${SHORT} */\n/** ${LONG} */\nconst x = 1;\n`, 2],
    ['a docstring of several lines', 'x.ts', `/**\n * ${SHORT}\n * ${LONG.replaceAll('word word word', 'word word\n * word')}\n */\nconst x = 1;\n`, 3],
    ['a member', 'x.ts', `interface X {\n  y: number;\n  /** ${LONG} */\n  z: number;\n}\n`, 3],
    ['a comment after code', 'x.ts', `const a = 1;\nconst x = 1; // ${LONG}\n`, 2],
    ['line comments that go on', 'x.ts', `// ${SHORT}\n// ${LONG.replace('word word', 'word\n// word')}\nconst x = 1;\n`, 2],
    ['a comment in an argument list', 'x.ts', `f(\n  1, // ${LONG}\n  2,\n);\n`, 2],
    ['the last line of a block', 'x.ts', `try {\n  f();\n} catch {\n  // ${LONG}\n}\n`, 4],
    ['an item of a list', 'x.ts', `/**\n * ${SHORT}\n *\n * - ${SHORT}\n * - ${LONG.replace('word word', 'word\n *   word')}\n */\nconst x = 1;\n`, 5],
    ['a shader’s head', 'x.wgsl', `// ${SHORT}\n// ${LONG}\nstruct Params {}\n`, 2],
    ['a paragraph', 'x.md', `# Title\n\n${SHORT} ${SHORT}\n${LONG}\n`, 4],
    ['an item in markdown', 'x.md', `- ${SHORT}\n- ${LONG}\n`, 2],
  ])('finds a long sentence in %s', (_where, path, text, line) => expect(found(path, text)).toEqual([[line, MOST_WORDS + 1]]));

  test.each([
    ['code', 'x.ts', `const text = '${LONG}';\nconst pattern = /${LONG}/;\nconst other = \`\${1} // ${LONG}\`;\n`],
    ['a formula on lines of its own', 'x.ts', `/**\n * ${SHORT}\n *\n *   ${LONG}\n */\nconst x = 1;\n`],
    ['a comment below a shader’s head', 'x.wgsl', `// ${SHORT}\nstruct Params {}\n// ${LONG}\n`],
    ['fenced code', 'x.md', `${SHORT}\n\n\`\`\`ts\n${LONG}\n\`\`\`\n`],
    ['a table', 'x.md', `| a | b |\n|---|---|\n| ${LONG} | x |\n`],
    ['comments apart', 'x.ts', `// ${words(20).slice(0, -1)}\nconst x = 1; // ${words(20)}\n// ${words(20)}\n`],
  ])('passes %s', (_what, path, text) => expect(found(path, text)).toEqual([]));

  test.each([
    ['One, two and three.', 4],
    ['Node 20 has 65,536 of them.', 4],
    ['It calls `glimpse train --out x` once.', 4],
    ['It takes `a`, `b` and `c` here.', 4],
    ['It reads [the page](https://example.org/a/b) again.', 5],
    ['BLEU (Papineni and others 2002) is a score.', 4],
    ['It is y = x W + b.', 2],
    ['The weights w [K, N] are dense.', 4],
    ['Some do, e.g. most of them, and others don’t.', 9],
  ])('counts the words of "%s"', (sentence, count) => expect(countWords(sentence)).toBe(count));

  const folder = temporaryFolder();

  test.each([
    ['1 and the place for a long sentence', LONG, 1, `page.md:3  ${MOST_WORDS + 1}  word word`],
    ['0 for short ones', SHORT, 0, 'no sentence has more than 25 words'],
  ])('exits with %s', (_what, sentence, code, printed) => {
    const path = join(folder, 'page.md');
    writeFileSync(path, `# Title\n\n${sentence}\n`);
    const { status, stdout } = spawnSync(process.execPath, ['--import', 'tsx', join(ROOT, 'scripts/prose.ts'), path], { cwd: ROOT, encoding: 'utf8' });
    expect(status).toBe(code);
    expect(stdout).toContain(printed);
  });

  test('an abbreviation ends no sentence', () => expect(found('x.md', `${words(20).slice(0, -1)}, e.g. ${words(20)}\n`)).toEqual([[1, 41]]));
});
