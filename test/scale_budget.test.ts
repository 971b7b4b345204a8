/** The budget of a data set (scripts/scale_budget.ts), against numbers worked out by hand. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { columnsOf, DEFAULTS, type Inputs, RESULTS, table } from '../scripts/scale_budget.ts';

const resultOf = (inputs: Inputs, name: string, unit: string) => RESULTS.find((row) => row[0] === name && row[1] === unit)?.[2](inputs);

/** 1,000 pictures with 2 captions of 10 tokens; 4 processors. */
const SMALL: Inputs = {
  ...{ pictures: 1000, captions: 2, 'tokens-per-caption': 10, 'bytes-per-picture': 50_000, 'bytes-per-caption': 100 },
  ...{ regions: 50, width: 768, 'bytes-per-number': 4, epochs: 9, parameters: 1e6, 'bytes-per-gradient': 2, 'captions-per-micro-batch': 20 },
  ...{ processors: 4, 'pictures-per-second': 10, 'tokens-per-second': 100, efficiency: 0.5 },
  ...{ 'price-per-hour': 3, 'price-per-gb-month': 0.1, months: 6, 'price-per-gb-out': 0.2 },
};

test.each([
  ['pictures, stored', 'GB', 0.05],
  ['captions, stored', 'GB', 0.0002],
  ['features of one picture', 'bytes', 153_600],
  ['features, stored', 'GB', 0.1536],
  ['tokens of an epoch', '10⁶', 0.02],
  ['encoding, one alone', 'hours', 100 / 3600],
  ['encoding, all', 'hours', 25 / 3600],
  ['training, one alone', 'hours', 0.5],
  ['training, all', 'hours', 0.25], // half of 4 times the rate
  ['pictures read to encode, all', 'MB/s', 2],
  ['features written, all', 'MB/s', 6.144],
  ['features read to train, all', 'MB/s', 1.536], // 10 pictures a second
  ['gradients sent, each', 'MB/s', 0.75], // three quarters of 2 × 2 MB, each 4 seconds
  ['encoding', 'money', 300 / 3600],
  ['training', 'money', 3], // 4 processors for a quarter of an hour
  ['pictures and features kept', 'money', 0.2036 * 0.6],
  ['features carried out once', 'money', 0.1536 * 0.2],
])('%s (%s)', (name, unit, expected) => expect(resultOf(SMALL, name, unit)).toBeCloseTo(expected, 9));

test('all results have a case above', () => expect(RESULTS).toHaveLength(17));

test('the defaults are COCO with ResNet-50 in halves: 200,704 bytes a picture', () => {
  expect(resultOf(DEFAULTS, 'features of one picture', 'bytes')).toBe(200_704);
  expect(resultOf(DEFAULTS, 'features, stored', 'GB')).toBeCloseTo(23.74, 2);
  expect(resultOf(DEFAULTS, 'gradients sent, each', 'MB/s')).toBe(0); // one alone
});

test('more processors of full efficiency take less time for the same money', () =>
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 4096 }), (processors) => {
      for (const work of ['encoding', 'training']) {
        const [one, many] = [1, processors].map((count) => resultOf({ ...DEFAULTS, processors: count }, `${work}, all`, 'hours') as number);
        expect(one / many).toBeCloseTo(processors, 6);
        expect(resultOf({ ...DEFAULTS, processors }, work, 'money')).toBe(resultOf(DEFAULTS, work, 'money'));
      }
    }),
  ));

test('several values of an input are columns; one value is that of all columns', () => {
  const columns = columnsOf({ pictures: '118287,100e6', processors: '64' });
  expect(columns.map(({ pictures, processors, width }) => [pictures, processors, width])).toEqual([
    [118_287, 64, 2048],
    [100_000_000, 64, 2048],
  ]);
  expect(table(columns)).toContain('| **features, stored** | GB | 23.7 | 20,070 |');
});

test.each([
  [{ pictures: 'many' }, '--pictures: expected positive numbers'],
  [{ months: '0' }, '--months: expected positive numbers'],
  [{ pictures: '1,2,3', epochs: '4,5' }, '--epochs: expected 1 value or 3, got 2'],
])('what makes no budget is an error: %o', (given, message) => expect(() => columnsOf(given)).toThrow(message));
