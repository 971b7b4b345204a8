/** Parts of tensors and copies laid side by side: slices with steps, flips, splits, tiles, blocks of pixels as channels. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { gradcheck } from '../src/autograd/gradcheck.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, variable } from '../src/autograd/tape.ts';
import { type Shape, sizeOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const counting = (shape: Shape, dtype: 'f32' | 'i32' | 'u32' = 'f32') =>
  tensor(
    Array.from({ length: sizeOf(shape) }, (_, i) => i),
    shape,
    dtype,
  );
const valuesOf = async (x: Tensor) => [...(await x.data())];

test('property: a slice with steps is what a loop takes, of up to six axes and of every type', async () => {
  const axis = fc.record({ extent: fc.integer({ min: 1, max: 4 }), start: fc.nat(), size: fc.nat(), step: fc.constantFrom(1, -1, 2, -2, 3) });
  await fc.assert(
    fc.asyncProperty(fc.array(axis, { maxLength: 6 }), fc.constantFrom('f32' as const, 'i32' as const, 'u32' as const), async (drawn, dtype) => {
      using _s = scope();
      const axes = drawn.map(({ extent, start, size, step }) => {
        const first = start % extent;
        const most = Math.floor((step > 0 ? extent - 1 - first : first) / Math.abs(step)) + 1;
        return { extent, first, count: size % (most + 1), step };
      });
      const shape = axes.map(({ extent }) => extent);
      let wanted = [0];
      for (const { extent, first, count, step } of axes)
        wanted = wanted.flatMap((at) => Array.from({ length: count }, (_, i) => at * extent + first + i * step));
      const y = ops.slice(
        counting(shape, dtype),
        axes.map(({ first }) => first),
        axes.map(({ count }) => count),
        axes.map(({ step }) => step),
      );
      expect(y.dtype).toBe(dtype);
      expect(await valuesOf(y)).toEqual(wanted);
    }),
    { numRuns: 60, seed: 7 },
  );
});

test('whole rows are still a view, with a step of 1 or where there is one row', async () => {
  using _s = scope();
  const x = zeros([8, 64]);
  const { buffer } = x.slice;
  expect(ops.slice(x, [2, 0], [3, 64], [1, 1]).slice.buffer).toBe(buffer);
  expect(ops.slice(x, [2, 0], [1, 64], [-5, 1]).slice.buffer).toBe(buffer);
  expect(ops.slice(x, [2, 0], [3, 64], [2, 1]).slice.buffer).not.toBe(buffer);
  for (const part of ops.split(x, [2, 5, 1], 0)) expect(part.slice.buffer).toBe(buffer);
});

test('slices that leave the tensor are refused', () => {
  using _s = scope();
  const x = zeros([2, 3]);
  expect(() => ops.slice(x, [0, 2], [2, 2], [1, -3])).toThrow('slice: start [0,2], step [1,-3] and size [2,2] do not fit in [2,3]');
  expect(() => ops.slice(x, [0, 0], [2, 2], [1, 0])).toThrow('step [1,0]');
  expect(() => ops.slice(x, [0, 3], [2, 1])).toThrow('slice: start [0,3] and size [2,1] do not fit in [2,3]');
  expect(() => ops.slice(x, [0, 0], [2, 2], [1])).toThrow('step [1]');
  expect(() => ops.flip(x, 2)).toThrow('flip: axis 2 is not among the 2 of [2,3]');
  expect(() => ops.flip(x, [1, -1])).toThrow('flip: an axis comes twice among [1,-1]');
  expect(() => ops.split(x, [1, 1], 1)).toThrow('split: sizes [1,1] do not divide axis 1 of [2,3], which has 3');
  expect(() => ops.tile(x, [2])).toThrow('tile: repeats [2] are not one whole number ≥ 0 for each axis of [2,3]');
  expect(() => ops.depthToSpace(zeros([1, 6, 2, 2]), 2)).toThrow('depthToSpace: the 6 channels of [1,6,2,2] are no multiple of 2²');
  expect(() => ops.spaceToDepth(zeros([1, 6, 3, 2]), 2)).toThrow('spaceToDepth: the sides of [1,6,3,2] are no multiples of 2');
  expect(() => ops.spaceToDepth(x, 2)).toThrow('spaceToDepth: x [2,3] has 2 axes, [N, C, H, W] is expected');
});

test('flip, split and tile', async () => {
  using _s = scope();
  const x = counting([2, 3], 'i32');
  expect(await valuesOf(ops.flip(x, 1))).toEqual([2, 1, 0, 5, 4, 3]);
  expect(await valuesOf(ops.flip(x, [0, -1]))).toEqual([5, 4, 3, 2, 1, 0]);
  const parts = ops.split(x, [1, 0, 2], 1);
  expect(parts.map(({ shape }) => shape)).toEqual([
    [2, 1],
    [2, 0],
    [2, 2],
  ]);
  expect(await Promise.all(parts.map(valuesOf))).toEqual([[0, 3], [], [1, 2, 4, 5]]);
  const tiled = ops.tile(x, [2, 2]);
  expect(tiled.shape).toEqual([4, 6]);
  expect(await valuesOf(tiled)).toEqual([0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]);
  expect(ops.tile(x, [1, 0]).shape).toEqual([2, 0]);
  expect(ops.flip(zeros([2, 0]), 1).shape).toEqual([2, 0]);
});

test('gradients of tiles and flips', async () => {
  const weights = () => counting([4, 9]);
  const data = Float32Array.from({ length: 6 }, (_, i) => Math.sin(i));
  expect(await gradcheck((x) => ops.sum(ops.mul(weights(), ops.square(ops.tile(x, [2, 3])))), [{ shape: [2, 3], data }])).toMatchObject({ ok: true });
  using _s = scope();
  const x = variable(tensor(data, [2, 3]));
  backward(ops.sum(ops.mul(counting([2, 3]), ops.flip(x, 1))));
  expect([...((await gradOf(x)?.data()) ?? [])]).toEqual([2, 1, 0, 5, 4, 3]);
});

describe.each(['DCR', 'CRD'] as const)('blocks of pixels as channels, %s', (mode) => {
  test('depthToSpace is what its definition says, and spaceToDepth undoes it', async () => {
    using _s = scope();
    const [n, depth, h, w, block] = [2, 3, 5, 7, 2];
    const x = counting([n, depth * block ** 2, h, w]);
    const values = await valuesOf(x);
    const y = ops.depthToSpace(x, block, mode);
    expect(y.shape).toEqual([n, depth, h * block, w * block]);
    const found = await valuesOf(y);
    let at = 0;
    for (let b = 0; b < n; b++)
      for (let c = 0; c < depth; c++)
        for (let row = 0; row < h * block; row++)
          for (let column = 0; column < w * block; column++) {
            const place = (row % block) * block + (column % block);
            const channel = mode === 'DCR' ? place * depth + c : c * block ** 2 + place;
            const from = ((b * depth * block ** 2 + channel) * h + Math.floor(row / block)) * w + Math.floor(column / block);
            expect(found[at++]).toBe(values[from]);
          }
    expect(await valuesOf(ops.spaceToDepth(y, block, mode))).toEqual(values);
  });
});
