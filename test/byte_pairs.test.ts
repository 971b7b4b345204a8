/** Byte-pair tokens: those of transformers, round trips of any text, vocabularies that hold only some of them, files that are damaged. */
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { oracle } from '../scripts/third_party.js';
import { asWritten, BYTE_TOKENS, BytePairs, isToken, textOfTokens } from '../src/data/byte_pairs.ts';
import { readTokenizer } from '../src/data/tokenizer_files.ts';
import { SPECIAL_WORDS, tokensOf, Vocabulary } from '../src/data/words.ts';

const FOLDER = 'test/goldens/gpt2';
const { bytePairs, ids } = readTokenizer(FOLDER);

test.each(
  JSON.parse(readFileSync(`${FOLDER}/texts.json`, 'utf8')) as { text: string; ids: number[] }[],
)('the tokens of "$text" are those of transformers', (given) => {
  expect(bytePairs.tokens(given.text).map((token) => ids.get(token))).toEqual(given.ids);
});

const other = oracle('gpt-3-encoder') as { encode(text: string): number[] } | null;
test.skipIf(!other)('the tokens of GPT-2’s own tokenizer are those of another implementation', () => {
  const files = dirname(createRequire(new URL('../oracles/package.json', import.meta.url)).resolve('gpt-3-encoder'));
  const folder = mkdtempSync(join(tmpdir(), 'glimpse-tokenizer-'));
  cpSync(join(files, 'encoder.json'), join(folder, 'vocab.json'));
  cpSync(join(files, 'vocab.bpe'), join(folder, 'merges.txt'));
  const own = readTokenizer(folder);
  expect(own.ids.size).toBe(50_257);
  const words = fc.array(
    fc.constantFrom('dog', ' running', ' in', " it's", ' 1,234.5', ' naïve', '日本', '🙂', '  ', '\n', ' antidisestablishmentarianism', '!?'),
  );
  fc.assert(
    fc.property(words, (list) => {
      const text = list.join('');
      expect(own.bytePairs.tokens(text).map((token) => own.ids.get(token))).toEqual(other?.encode(text));
    }),
  );
});

test('the tokens of any text give the text back', () => {
  const text = fc.string({ unit: fc.oneof(fc.constantFrom(' ', '\n', "'s", 'dog', ' the', '.'), fc.string({ unit: 'binary', maxLength: 3 })), maxLength: 40 });
  fc.assert(
    fc.property(text, (given) => {
      const tokens = bytePairs.tokens(given);
      expect(tokens.every(isToken)).toBe(true);
      expect(textOfTokens(tokens)).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(new TextEncoder().encode(given)));
    }),
  );
});

test('256 tokens stand for single bytes', () => {
  expect(new Set(BYTE_TOKENS).size).toBe(256);
  expect(BYTE_TOKENS.map((token) => ids.get(token))).toEqual(Array.from({ length: 256 }, (_, i) => i + 1)); // behind <|endoftext|>
  expect(isToken('a b')).toBe(false);
  expect(isToken('')).toBe(false);
});

test('the first pair of the list is merged first, wherever it stands', () => {
  const pairs = new BytePairs([
    ['b', 'c'],
    ['a', 'b'],
    ['bc', 'd'],
  ]);
  expect(pairs.tokens('abcd')).toEqual(['a', 'bcd']);
  expect(pairs.tokens('abab')).toEqual(['ab', 'ab']);
});

test('captions are written as the model has seen texts', () => {
  expect(asWritten('  A dog  runs ,\tfast . ')).toBe('A dog runs, fast.');
});

describe('a vocabulary of tokens', () => {
  const captions = ['A dog runs .', 'A dog sits .', 'The dog runs .'].map((caption) => tokensOf(caption, bytePairs));

  test('has the special words, the bytes, and then the most frequent tokens', () => {
    const vocabulary = Vocabulary.build(captions, 262, 1, bytePairs);
    expect(vocabulary.size).toBe(262);
    expect(vocabulary.words.slice(0, 4)).toEqual(SPECIAL_WORDS);
    expect(vocabulary.words.slice(4, 260)).toEqual(BYTE_TOKENS);
    expect(vocabulary.has('Ġdog')).toBe(true);
  });

  test('is filled with what is merged first, up to all tokens', () => {
    expect(new Set(Vocabulary.build(captions, 10_000, 1, bytePairs).words.slice(4))).toEqual(
      new Set([...ids.keys()].filter((token) => token !== '<|endoftext|>')),
    );
    expect(Vocabulary.build([], 263, 1, bytePairs).words.slice(260)).toEqual([...bytePairs.merges].slice(0, 3));
  });

  test('says a token that it has not by the tokens that this was merged from', () => {
    const vocabulary = Vocabulary.build([], 260, 1, bytePairs);
    for (const tokens of captions) {
      const said = tokens.flatMap((token) => bytePairs.within(token, (each) => vocabulary.has(each)));
      const encoded = vocabulary.encode(said, 99).slice(1, -1);
      expect(encoded).not.toContain(1);
      expect(vocabulary.decode(encoded)).toBe(textOfTokens(tokens));
    }
  });

  test('puts words together as text, and special words beside it', () => {
    const vocabulary = Vocabulary.build(captions, 500, 1, bytePairs);
    const tokens = vocabulary.encode(tokensOf('A dog runs.', bytePairs), 99);
    expect(vocabulary.decode(tokens)).toBe('startseq A dog runs. endseq');
    expect(vocabulary.word(tokens[2])).toBe('dog');
    expect(vocabulary.scoredWords(tokens.slice(1, -1))).toEqual(['a', 'dog', 'runs']);
    expect(vocabulary.referenceWords('A dog runs .')).toEqual(['a', 'dog', 'runs']);
    expect(() => new Vocabulary([...SPECIAL_WORDS, 'two words'], 'byte-pairs')).toThrow(/"two words".*stands for no bytes/);
  });
});

describe('files', () => {
  const broken = (change: (folder: string) => void): string => {
    const folder = mkdtempSync(join(tmpdir(), 'glimpse-tokenizer-'));
    for (const name of ['vocab.json', 'merges.txt']) cpSync(join(FOLDER, name), join(folder, name));
    change(folder);
    return folder;
  };
  const vocab = (edit: (tokens: Record<string, unknown>) => void) => (folder: string) => {
    const tokens = JSON.parse(readFileSync(join(folder, 'vocab.json'), 'utf8')) as Record<string, unknown>;
    edit(tokens);
    writeFileSync(join(folder, 'vocab.json'), JSON.stringify(tokens));
  };
  const merges = (edit: (text: string) => string) => (folder: string) => {
    writeFileSync(join(folder, 'merges.txt'), edit(readFileSync(join(folder, 'merges.txt'), 'utf8')));
  };

  test.each<[string, (folder: string) => void, RegExp]>([
    ['two tokens with one id', vocab((t) => Object.assign(t, { dog: 7 })), /vocab\.json.* the id 7 belongs to two tokens/],
    ['a gap in the ids', vocab((t) => Object.assign(t, { dogdog: 5000 })), /"dogdog" has the id 5000, but there are only 301 tokens/],
    ['a byte without a token', vocab((t) => Object.assign(t, { a: undefined, aaa: t.a })), /has no token "a"/],
    ['an id that is no number', vocab((t) => Object.assign(t, { a: 'one' })), /vocab\.json.*a: expected/],
    ['a list', (folder) => writeFileSync(join(folder, 'vocab.json'), '[]'), /vocab\.json/],
    ['a merge of three', merges((text) => `${text}a b c\n`), /merges\.txt.*expected two tokens with a space between them, got "a b c"/],
    ['a merge of no known token', merges((text) => `${text}x y\n`), /merges\.txt.*"xy" is no token of vocab\.json/],
    ['no merges', merges(() => '#version: 0.2\n'), /merges\.txt.*has no merges/],
  ])('%s is refused', (_, change, message) => {
    expect(() => readTokenizer(broken(change))).toThrow(message);
  });
});
