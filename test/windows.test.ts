/** Windows over sequences, whole tensors and nothing at all: what the cases of the op table do not hold. */
import { expect, test } from 'vitest';
import { gradcheck } from '../src/autograd/gradcheck.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, variable } from '../src/autograd/tape.ts';
import { ShapeError } from '../src/errors.ts';
import { conv2dGradWeight } from '../src/kernels/conv.ts';
import { forceVersion } from '../src/kernels/families.ts';
import { Random } from '../src/random.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { full, scope, type Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

const drawn = (shape: number[], seed: string) => {
  const random = new Random(5, seed);
  return { shape, data: Float32Array.from({ length: sizeOf(shape) }, () => random.normal()) };
};

test.each([
  ['conv1d', [2, 3, 9], [4, 3, 3], (x: Tensor, w: Tensor, b: Tensor) => ops.conv1d(x, w, b, { stride: 2, pad: [1, 2] })],
  ['conv1d, channels last', [2, 9, 4], [3, 2, 4], (x: Tensor, w: Tensor, b: Tensor) => ops.conv1d(x, w, b, { groups: 2, dilation: 2, layout: 'nhwc' })],
  ['convTranspose1d', [2, 3, 5], [3, 4, 3], (x: Tensor, w: Tensor, b: Tensor) => ops.convTranspose1d(x, w, b, { stride: 2, outputPadding: 1 })],
] as const)('%s: gradients reach all inputs', async (name, x, w, run) => {
  const inputs = [drawn([...x], `${name} x`), drawn([...w], `${name} w`), drawn([4], `${name} b`)];
  expect(await gradcheck((...t) => ops.mean(ops.square(run(t[0], t[1], t[2]))), inputs)).toMatchObject({ ok: true });
});

test('a weight gradient of more pictures than one buffer of columns holds', async () => {
  const geometry = {
    ...{ images: 7, height: 64, width: 64, channels: 64, outHeight: 64, outWidth: 64, outChannels: 4, groups: 1 },
    ...{ kernel: [3, 3] as const, stride: [1, 1] as const, pad: [1, 1] as const, dilation: [1, 1] as const },
  };
  using _s = scope();
  const drawnTensor = (shape: number[], seed: string) => tensor(drawn(shape, seed).data, shape);
  const [x, dy] = [drawnTensor([7, 64, 64, 64], 'pictures'), drawnTensor([7, 64, 64, 4], 'gradient')];
  const gradientBy = async (version: string) => {
    const dw = full([3, 3, 64, 4], 7);
    forceVersion('conv2d_grad_weight', version);
    conv2dGradWeight(dw.gpu, geometry, x.slice, dy.slice, dw.slice, 'test');
    forceVersion('conv2d_grad_weight', null);
    return dw.data();
  };
  const expected = await gradientBy('direct');
  const difference = (await gradientBy('im2col')).map((value, i) => Math.abs(value - expected[i]));
  expect(Math.max(...expected)).toBeGreaterThan(100);
  expect(Math.max(...difference)).toBeLessThan(0.01);
});

test('a convolution of sequences is that of pictures of height 1', async () => {
  using _s = scope();
  const [x, w] = [tensor([1, 2, 3, 4, 5], [1, 1, 5]), tensor([1, -1], [1, 1, 2])];
  expect([...(await ops.conv1d(x, w, null, { pad: [1, 0] }).data())]).toEqual([-1, -1, -1, -1, -1]);
  expect([...(await ops.convTranspose1d(x, w, null, { stride: 2 }).data())]).toEqual([1, -1, 2, -2, 3, -3, 4, -4, 5, -5]);
  expect([...(await ops.pool('maxPool1d', x, { kernel: 2 }).data())]).toEqual([2, 4]);
  expect([...(await ops.pool('avgPool1d', x, { kernel: 2, pad: [1, 0], countPadding: true }).data())]).toEqual([0.5, 2.5, 4.5]);
});

test.each(['nchw', 'nhwc'] as const)('pooling over all places, %s', async (layout) => {
  using _s = scope();
  const x = variable(layout === 'nchw' ? tensor([3, -4, 0, 0, 5, 12], [1, 3, 1, 2]) : tensor([3, 0, 5, -4, 0, 12], [1, 1, 2, 3]));
  expect([...(await ops.globalMaxPool(x, layout).data())]).toEqual([3, 0, 12]);
  expect([...(await ops.globalLpPool(x, 2, layout).data())]).toEqual([5, 0, 13]);
  expect([...(await ops.globalAveragePool(x, layout).data())]).toEqual([-0.5, 0, 8.5]);
  backward(ops.sum(ops.globalMaxPool(x, layout)));
  expect([...((await gradOf(x)?.data()) ?? [])]).toEqual(layout === 'nchw' ? [1, 0, 1, 0, 0, 1] : [1, 1, 0, 0, 0, 1]);
});

test('indices of maxima: the first of several, a NaN before all, numbered with the channels first', async () => {
  using _s = scope();
  const x = tensor([1, 1, Number.NaN, 7, 2, 2, 9, 9], [1, 2, 2, 2]);
  expect([...(await ops.maxPoolWithIndices(x, { kernel: 2 }).indices.data())]).toEqual([2, 6]);
  const last = ops.maxPoolWithIndices(ops.transpose(x, [0, 2, 3, 1]), { kernel: 2, layout: 'nhwc' });
  expect([...(await last.indices.data())]).toEqual([2, 6]);
});

test('a window that lies outside of the picture has no largest element', async () => {
  using _s = scope();
  const x = variable(tensor([1, 2, 3], [1, 1, 3]));
  const y = ops.pool('maxPool1d', x, { kernel: 2, dilation: 4, stride: 1, pad: 1 });
  expect([...(await y.data())]).toEqual([Number.NEGATIVE_INFINITY]);
  backward(ops.sum(y));
  expect([...((await gradOf(x)?.data()) ?? [])]).toEqual([0, 0, 0]);
});

test('of nothing comes nothing', async () => {
  using _s = scope();
  const none = zeros([0, 3, 4, 4]);
  const [w, volume] = [zeros([5, 3, 3, 3]), zeros([0, 3, 4, 4, 4])];
  for (const [y, shape] of [
    [ops.pad(none, [0, 0, 1, 1], [0, 0, 1, 1], 'reflect'), [0, 3, 6, 6]],
    [ops.resize(none, { sizes: [7, 2], mode: 'cubic' }), [0, 3, 7, 2]],
    [ops.pool('avgPool2d', none, { kernel: 2 }), [0, 3, 2, 2]],
    [ops.maxPoolWithIndices(none, { kernel: 2 }).indices, [0, 3, 2, 2]],
    [ops.conv2d(none, w, null), [0, 5, 2, 2]],
    [ops.conv3d(volume, zeros([2, 3, 1, 1, 1]), null), [0, 2, 4, 4, 4]],
    [ops.convTranspose2d(none, zeros([3, 2, 2, 2]), zeros([2]), { stride: 2 }), [0, 2, 8, 8]],
    [ops.maxUnpool(zeros([0]), zeros([0], 'u32'), [2]), [2]],
  ] as const) {
    expect(y.shape).toEqual(shape);
    expect([...(await y.data())]).toEqual(new Array(sizeOf(shape)).fill(0));
  }
  expect([...(await ops.pad(zeros([1, 0]), [0, 1], [0, 1], 'constant', 3).data())]).toEqual([3, 3]);
});

test('what does not fit is refused with what came', () => {
  using _s = scope();
  const x = zeros([1, 3, 4, 4]);
  const refused = (work: () => unknown, message: string) => {
    expect(work).toThrow(ShapeError);
    expect(work).toThrow(message);
  };
  refused(() => ops.pool('maxPool2d', x, { kernel: [2, 0] }), 'maxPool2d: kernel [2,0] is not of whole numbers ≥ 1');
  refused(() => ops.pool('maxPool2d', x, { kernel: [2, 2, 2] }), 'maxPool2d: kernel [2,2,2] has 3 numbers, 2 are expected');
  refused(() => ops.pool('avgPool2d', x, { kernel: 2, power: 3 }), 'avgPool2d: it takes no power');
  refused(() => ops.conv2d(x, zeros([2, 3, 1, 1]), null, { stride: 0 }), 'conv2d: stride [0,0] is not of whole numbers ≥ 1');
  refused(() => ops.convTranspose2d(x, zeros([3, 2, 1, 1]), null, { pad: 2 }), 'leave a result of 0×0');
  refused(() => ops.resize(x, { mode: 'linear' }), 'resize: neither sizes nor scales are given');
  refused(() => ops.resize(x, { mode: 'linear', sizes: [2, 2], axes: [1, 1] }), 'is named twice');
  refused(() => ops.resize(x, { mode: 'linear', sizes: [2, 2], scales: [1e-30, 1], antialias: true }), 'leaves no place of axis 2');
  refused(() => ops.pad(x, [0, 0, -5, 0], [0, 0, 0, 0]), 'axis 2 of [1,3,4,4] cannot be cropped by 5 and 0');
});
