/** Captions become words by three rules, and words become a vocabulary. */
import { expect, test } from 'vitest';
import { unframed, Vocabulary, wordsOf } from '../src/data/words.ts';

test('the rules that make words of a caption', () => {
  expect(wordsOf("A man's dog, 2 cats -- RUN!", 'ascii')).toEqual(['a', 'mans', 'dog', '2', 'cats', 'run']);
  expect(wordsOf(' … ', 'ascii')).toEqual([]);
  expect(wordsOf("A man's dog, 2 cats -- RUN!", 'ptb')).toEqual(['a', 'man', "'s", 'dog', '2', 'cats', 'run']);
  expect(wordsOf('Größe: 2 Ку\u0301бика — 猫, cafe\u0301!', 'unicode')).toEqual(['größe', '2', 'ку\u0301бика', '猫', 'café']);
});

test('control characters are part of no word, by any rule', () => {
  for (const rule of ['ascii', 'ptb', 'unicode'] as const) expect(wordsOf('a\u0001 d\u001bog\u202e\tran\u0085', rule)).toEqual(['a', 'dog', 'ran']);
});

test.each([
  ...['startseq a dog endseq', 'STARTSEQ a dog ENDSEQ', '<start> a dog <end>', '<s>a dog</s>', '<sos> a dog <eos>', 'sos a dog eos', 'bos a dog eos'],
  ...['[CLS] a dog [SEP]', '<|startoftext|>a dog<|endoftext|>', 'startseq <start> a dog <end> endseq', 'a dog <end> <pad> <pad>', 'startofseq a dog endofseq'],
])('the frame of "%s" is taken off', (caption) => expect(unframed(caption)).toBe('a dog'));

test.each([
  'a dog',
  'start of a race at the end',
  'a startseq dog',
  'the legend',
  'sos',
  'weekendseq',
  'a <b> dog',
  ' a  dog ',
])('"%s" has no frame', (caption) => expect(unframed(caption)).toBe(caption));

test('a vocabulary is ordered by frequency, ties by appearance, special words first', () => {
  const v = Vocabulary.build(
    [
      ['b', 'a', 'c'],
      ['a', 'b', 'a', 'rare'],
    ],
    7,
    1,
  );
  expect(v.words).toEqual(['<pad>', '<unk>', 'startseq', 'endseq', 'a', 'b', 'c']);
  expect(v.encode(['a', 'zebra', 'b'], 35)).toEqual([2, 4, 1, 5, 3]);
  expect(v.encode(['a', 'b', 'c', 'a'], 4)).toEqual([2, 4, 5, 3]); // cut at the end, endseq kept
  expect(v.decode([4, 1, 5])).toBe('a <unk> b');
  expect(Vocabulary.build([['a', 'a', 'b']], 10, 2).words).toHaveLength(5);
});

test('frames are taken off in time that grows with the caption, however many there are', () => {
  const blanks = ' '.repeat(400_000);
  expect(unframed(`a${blanks}b`)).toBe(`a${blanks}b`);
  expect(unframed(`startseq a${blanks}b endseq`)).toBe(`a${blanks}b`);
  expect(unframed('<s>'.repeat(20_000))).toContain('<s>'); // nobody frames a caption so often
});
