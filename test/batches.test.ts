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

test('packed captions come in any mix of lengths; others come beside those of their length, to save padding', () => {
  const ids = (words: number) => [2, ...Array.from({ length: words }, (_, i) => 10 + i), 3];
  const images = Array.from({ length: 64 }, (_, i) => ({ file: `${i}`, split: 'train' as const, captions: ['x'], ids: [ids(2), ids(5), ids(9), ids(14)] }));
  const dataset = { imageFolder: '', words: 'ascii' as const, vocabulary: [], maxLength: 20, images };
  const lengthsIn = (packed: boolean) => {
    const batches = epochBatches(dataset, 'train', { images: 16, captionsPerImage: 1, packed }, () => true, 1, 1);
    expect(batches.flatMap(({ files }) => files)).toHaveLength(4 * 64);
    expect(batches.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(64 * (3 + 6 + 10 + 15));
    return batches.map(({ tokens }) => tokens / 16);
  };
  expect(new Set(lengthsIn(false))).toEqual(new Set([3, 6, 10, 15]));
  for (const mean of lengthsIn(true)) expect(Math.abs(mean - 8.5)).toBeLessThan(4);
});
