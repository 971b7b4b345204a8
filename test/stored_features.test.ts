/** Features in half precision, brought to the device as halves: every number is exact there, and a step cannot tell the difference. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { floatsOf } from '../src/data/half.ts';
import { featureTensor, writeFeatures } from '../src/nn/stored_features.ts';
import { tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const bitsOf = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
const numbers = (count: number) => Uint16Array.from({ length: count }, (_, i) => (i * 40_503) & 0x7bff);

test('all 65,536 halves, subnormal, infinite and NaN', async () => {
  const halves = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
  const got = (await featureTensor(halves, [256, 256]).data()) as Float32Array;
  const expected = floatsOf(halves);
  const isNaNs = (values: Float32Array) => [...values].map(Number.isNaN);
  expect(isNaNs(got)).toEqual(isNaNs(expected));
  const finite = (values: Float32Array) => bitsOf(values.map((value) => (Number.isNaN(value) ? 0 : value)));
  expect(finite(got).equals(finite(expected))).toBe(true);
});

test('an odd count, a part of a larger array, and more words than fit in one dimension of the grid', async () => {
  for (const halves of [numbers(7), numbers(20).subarray(1, 10), numbers(20).subarray(1, 11), numbers(8_388_613)]) {
    const expected = bitsOf(floatsOf(halves));
    expect(bitsOf((await featureTensor(halves, [halves.length]).data()) as Float32Array).equals(expected)).toBe(true);
    const to = zeros([halves.length]);
    writeFeatures(halves, to);
    expect(bitsOf((await to.data()) as Float32Array).equals(expected)).toBe(true);
  }
});

test('float32 numbers go as they are; words that do not fit are refused', async () => {
  expect([...(await featureTensor(Float32Array.of(1.25, -3), [2]).data())]).toEqual([1.25, -3]);
  expect(() => ops.fromHalves(tensor(new Uint32Array(2)), [5])).toThrow('fromHalves: x [2] does not hold the 5 halves of [5], two to a word');
});
