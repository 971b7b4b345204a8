/** Captions become words by three rules, and words become a vocabulary. */
import { expect, test } from 'vitest';
import { Vocabulary, wordsOf } from '../src/data/words.ts';

test('the rules that make words of a caption', () => {
  expect(wordsOf("A man's dog, 2 cats -- RUN!", 'ascii')).toEqual(['a', 'mans', 'dog', '2', 'cats', 'run']);
  expect(wordsOf(' … ', 'ascii')).toEqual([]);
  expect(wordsOf("A man's dog, 2 cats -- RUN!", 'ptb')).toEqual(['a', 'man', "'s", 'dog', '2', 'cats', 'run']);
  expect(wordsOf('Größe: 2 Ку\u0301бика — 猫, cafe\u0301!', 'unicode')).toEqual(['größe', '2', 'ку\u0301бика', '猫', 'café']);
});

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
