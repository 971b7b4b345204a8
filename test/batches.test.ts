/** The batches of an epoch are drawn by seed and epoch. */
import { expect, test } from 'vitest';
import { epochBatches } from '../src/model/training/batches.ts';

test('the same seed and epoch give the same batches; every caption comes once', () => {
  const images = Array.from({ length: 11 }, (_, i) => ({
    file: `${i}`,
    split: 'train' as const,
    captions: ['x'],
    ids: [
      [2, 4 + i, 3],
      [2, 4 + i, 5, 3],
    ],
  }));
  const dataset = { imageFolder: '', words: 'ascii' as const, vocabulary: [], maxLength: 9, images };
  const at = (epoch: number, captionsPerImage: number) => epochBatches(dataset, 'train', { images: 4, captionsPerImage, packed: false }, () => true, 1, epoch);
  expect(at(1, 1)).toEqual(at(1, 1));
  expect(at(1, 1)).not.toEqual(at(2, 1));
  expect(at(1, 1).flatMap((b) => b.files)).toHaveLength(22);
  expect(new Set(at(1, 2).flatMap((b) => b.files)).size).toBe(11);
  expect(at(1, 2)[0]).toMatchObject({ active: [8, 8, 8], pictureOf: null, tokens: 4 * (2 + 3) });
});

test('captions take turns from epoch to epoch where a batch has fewer than there are', () => {
  const ids = [0, 1, 2, 3, 4].map((i) => [2, 10 + i, 3]);
  const images = [{ file: 'a', split: 'train' as const, captions: ['x'], ids }];
  const dataset = { imageFolder: '', words: 'ascii' as const, vocabulary: [], maxLength: 9, images };
  const saidIn = (epoch: number) => {
    const [{ targets }] = epochBatches(dataset, 'train', { images: 1, captionsPerImage: 2, packed: true }, () => true, 1, epoch);
    return Array.from(targets).filter((id) => id >= 10);
  };
  expect([1, 2, 3].map(saidIn)).toEqual([
    [10, 11],
    [12, 13],
    [14, 10],
  ]);
});
