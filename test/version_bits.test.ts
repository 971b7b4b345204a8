/**
 * Versions of the product and of the convolution give equal bits, since each adds over the inner extent in its order. So a
 * result does not depend on which weights were steady when, and a resumed run equals an unbroken one bit for bit. One version adds
 * in pieces. It must not take turns with those that want steady weights.
 */
import { describe, expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { FAMILIES, forceVersion } from '../src/kernels/families.ts';
import { VersionNotApplicable } from '../src/kernels/family.ts';
import { tunedFirsts } from '../src/kernels/tuning.ts';
import { Random } from '../src/random.ts';
import { type Shape, sizeOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

function drawn(shape: Shape, name: string): Tensor {
  const random = new Random(11, name);
  return tensor(
    Float32Array.from({ length: sizeOf(shape) }, () => random.normal()),
    shape,
  );
}

const IN_PIECES = 'workgroup_split';

/** Results by version, of those that can serve here, as whole numbers. */
async function resultsOf(family: string, work: () => Tensor): Promise<Map<string, Uint32Array>> {
  const results = new Map<string, Uint32Array>();
  for (const version of FAMILIES[family].names.filter((name) => name !== IN_PIECES)) {
    forceVersion(family, version);
    try {
      using _s = scope();
      results.set(version, new Uint32Array((await work().data()).buffer));
    } catch (error) {
      if (!(error instanceof VersionNotApplicable)) throw error;
    } finally {
      forceVersion(family, null);
    }
  }
  return results;
}

function expectEqualBits(results: Map<string, Uint32Array>): void {
  expect(results.size).toBeGreaterThan(1);
  const [[first, expected], ...others] = results;
  for (const [version, bits] of others)
    expect(
      bits.findIndex((word, i) => word !== expected[i]),
      `${version} differs from ${first} there`,
    ).toBe(-1);
}

describe('matrix products', () => {
  test.each([
    [4, 512, 2048, 'NN'],
    [16, 260, 516, 'NN'],
    [37, 124, 52, 'NN'],
    [64, 512, 500, 'NT'],
    [68, 320, 132, 'TN'],
    [5, 7, 11, 'NN'],
  ] as const)('%d×%d×%d %s', async (m, k, n, layout) => {
    using _s = scope();
    const [transA, transB] = [layout[0] === 'T', layout[1] === 'T'];
    const a = drawn(transA ? [k, m] : [m, k], 'a');
    const b = drawn(transB ? [n, k] : [k, n], 'b');
    const bias = drawn([n], 'bias');
    expectEqualBits(await resultsOf('matmul', () => ops.matmul(a, b, { transA, transB, bias, relu: true })));
  });
});

test('what adds in pieces is no adapter’s choice that has versions for steady weights', () => {
  if (device.gpu.software) expect(tunedFirsts(device.gpu, 'matmul')).not.toContain(IN_PIECES);
});

describe('convolutions', () => {
  test.each([
    [1, 14, 64, 68, 3],
    [2, 9, 32, 36, 3],
    [1, 13, 128, 132, 1],
  ] as const)('%d pictures of %d² and %d channels → %d, kernel %d', async (images, side, channels, out, kernel) => {
    using _s = scope();
    const x = drawn([images, side, side, channels], 'x');
    const w = drawn([kernel, kernel, channels, out], 'w');
    expectEqualBits(await resultsOf('conv2d', () => ops.conv2d(x, w, null, { pad: (kernel - 1) / 2, layout: 'nhwc' })));
  });
});

test('a depthwise convolution, too', async () => {
  using _s = scope();
  const [x, w] = [drawn([2, 13, 11, 24], 'x'), drawn([5, 5, 1, 24], 'w')];
  expectEqualBits(await resultsOf('conv2d', () => ops.conv2d(x, w, null, { pad: 2, groups: 24, layout: 'nhwc' })));
});

test('a product gives the same bits before and after its weights are steady', async () => {
  using _s = scope();
  const [a, w] = [drawn([16, 512], 'a'), drawn([512, 256], 'w')];
  const recorded: string[] = [];
  device.gpu.trace = ({ kernel }) => recorded.push(kernel.name);
  const bits = async () => [...new Uint32Array((await ops.matmul(a, w).data()).buffer)];
  const first = await bits();
  const second = await bits();
  device.gpu.trace = null;
  if (device.gpu.kind === 'lavapipe') expect(recorded).toContain('column_panels'); // the second time by another version
  expect(second).toEqual(first);
});
