/** What is recorded, in which order, and how much of it goes in one submit or one dispatch. */
import { expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { FAMILIES, forceVersion } from '../src/kernels/families.ts';
import { VersionNotApplicable } from '../src/kernels/family.ts';
import { empty, full, scope, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test('an upload does not overtake recorded commands that read the old values', async () => {
  using _s = scope();
  const x = tensor([1, 2, 3, 4]);
  const y = ops.addScalar(x, 10); // recorded, not submitted
  x.write(new Float32Array([100, 200, 300, 400]));
  expect([...(await y.data())]).toEqual([11, 12, 13, 14]);
  expect([...(await x.data())]).toEqual([100, 200, 300, 400]);
});

test('a freed buffer that is written anew does not disturb recorded readers', async () => {
  using _s = scope();
  const x = tensor([1, 2, 3, 4]);
  const y = ops.addScalar(x, 10);
  x.dispose();
  tensor([9, 9, 9, 9]); // takes the same buffer from the pool
  expect([...(await y.data())]).toEqual([11, 12, 13, 14]);
});

test('commands are batched: one submit for many ops', async () => {
  using _s = scope();
  const x = full([64], 1);
  await device.gpu.idle();
  const { submits, dispatches } = device.gpu;
  let y = x;
  for (let i = 0; i < 20; i++) y = ops.addScalar(y, 1);
  expect(device.gpu.submits).toBe(submits);
  expect(await ops.max(y).item()).toBe(21);
  expect(device.gpu.submits).toBe(submits + 1);
  expect(device.gpu.dispatches).toBeGreaterThanOrEqual(dispatches + 21);
});

test('more dispatches than the uniform ring holds are all right', async () => {
  using _s = scope();
  let y = full([8], 0);
  for (let i = 0; i < 3000; i++) {
    const next = ops.addScalar(y, 1);
    y.dispose();
    y = next;
  }
  expect(await ops.min(y).item()).toBe(3000);
});

test('a failing copy, upload or readback names the operation and the shapes of both sides', async () => {
  using _s = scope();
  const { gpu } = device;
  const [small, large] = [empty([3, 5], 'f32', 'small'), empty([700, 11], 'f32', 'large')];
  gpu.copy(large.slice, small.slice, 700 * 11 * 4); // Dawn refuses when the encoder is finished
  expect(() => gpu.flush()).toThrow(/submitting 1 commands, the last: copy of 30800 bytes from large \[700,11\] to small \[3,5\]/);
  expect(() => gpu.upload(small.slice, new Float32Array(1000))).toThrow(/upload of 4000 bytes to small \[3,5\]/);
  gpu.copy(large.slice, small.slice, 700 * 11 * 4);
  await expect(gpu.read([large.slice])).rejects.toThrow(/large \[700,11\]/);
  expect(Array.from(await full([2], 1).data())).toEqual([1, 1]); // and the device goes on
});

test.for(FAMILIES.matmul.names)('matmul %s folds more tiles than one dimension of a dispatch takes', async (version, { skip }) => {
  using _s = scope();
  const rows = 2_200_000;
  const a = tensor(
    Float32Array.from({ length: rows * 4 }, (_, i) => i % 1009),
    [rows, 4],
  );
  const b = tensor(
    Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 2 : 0)),
    [4, 4],
  );
  const rowsOf = async () => {
    const data = await ops.slice(ops.matmul(a, b), [rows - 3, 0], [3, 4]).data();
    return Array.from(data);
  };
  const expected = Array.from({ length: 12 }, (_, i) => 2 * (((rows - 3) * 4 + i) % 1009));
  forceVersion('matmul', version);
  try {
    expect(await rowsOf()).toEqual(expected);
  } catch (error) {
    if (!(error instanceof VersionNotApplicable)) throw error;
    skip(error.message);
  } finally {
    forceVersion('matmul', null);
  }
});

test.for(['direct', 'im2col', 'subgroup'])('conv2d %s folds more tiles than one dimension of a dispatch takes', async (version, { skip }) => {
  using _s = scope();
  const side = 1490;
  const x = tensor(
    Float32Array.from({ length: side * side * 4 }, (_, i) => i % 1009),
    [1, side, side, 4],
  );
  const w = tensor(
    Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 2 : 0)),
    [1, 1, 4, 4],
  );
  forceVersion('conv2d', version);
  try {
    const y = ops.conv2d(x, w, null, { layout: 'nhwc' });
    const last = await ops.slice(y, [0, side - 1, side - 2, 0], [1, 1, 2, 4]).data();
    expect(Array.from(last)).toEqual(Array.from({ length: 8 }, (_, i) => 2 * ((side * side * 4 - 8 + i) % 1009)));
  } catch (error) {
    if (!(error instanceof VersionNotApplicable)) throw error;
    skip(error.message);
  } finally {
    forceVersion('conv2d', null);
  }
});
