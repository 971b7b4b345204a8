/** What float32 must not lose: differences under a common offset, infinities, NaNs, and the digits of long sums. On both software drivers. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as ops from '../src/autograd/ops/index.ts';
import { backward, gradOf, variable } from '../src/autograd/tape.ts';
import { type Gpu, openGpu } from '../src/gpu/device.ts';
import { FAMILIES, forceVersion, VersionNotApplicable } from '../src/kernels/versions.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';

/** Runs `work` with every version of a family that can serve it; gives how many could. */
async function withEachVersion(family: string, work: (version: string) => Promise<void>): Promise<number> {
  let served = 0;
  for (const version of FAMILIES[family]) {
    forceVersion(family, version);
    try {
      await work(version);
      served++;
    } catch (error) {
      if (!(error instanceof VersionNotApplicable)) throw error;
    } finally {
      forceVersion(family, null);
    }
  }
  return served;
}

describe.each([undefined, 'swiftshader'])('on the driver %s', (adapter) => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await openGpu({ adapter });
  });
  afterAll(async () => {
    await gpu.close();
  });

  test.each([0, 1e3, 1e4, 1e5, -1e5])('log-softmax does not change under an offset of %f', async (offset) => {
    using _s = scope();
    const row = [0, 1, 2, 3].map((x) => x + offset); // exact in float32
    const log = Math.log(row.reduce((sum, x) => sum + Math.exp(x - row[3]), 0));
    const served = await withEachVersion('softmax', async (version) => {
      const y = await ops.softmax(tensor(row, [1, 4]), true).data();
      row.forEach((x, i) => {
        expect(Math.abs(y[i] - (x - row[3] - log)), version).toBeLessThan(5e-7);
      });
    });
    expect(served).toBeGreaterThan(1);
  });

  test.each([0, 1, 2, 7])('cross-entropy: a logit %i of −∞ counts nothing unless smoothing wants it', async (masked) => {
    using _s = scope();
    const target = 4;
    const row = [1, 2, 0.25, 0.5, 1.5, 0, 0, 0];
    row[masked] = Number.NEGATIVE_INFINITY;
    const sum = row.reduce((total, x) => total + Math.exp(x), 0);
    const served = await withEachVersion('cross_entropy', async (version) => {
      const x = variable(tensor(row, [1, 8]));
      const [targets, weights] = [tensor(Uint32Array.of(target)), tensor([1])];
      const { loss } = ops.crossEntropy(x, targets, weights);
      expect(await loss.item(), version).toBeCloseTo(Math.log(sum) - row[target], 5);
      backward(loss);
      const gradient = await gradOf(x)?.data();
      row.forEach((value, j) => {
        expect(gradient?.[j], version).toBeCloseTo(Math.exp(value) / sum - (j === target ? 1 : 0), 6);
      });
      expect(await ops.crossEntropy(x, targets, weights, 0.1).loss.item(), version).toBe(Number.POSITIVE_INFINITY);
      expect(await ops.crossEntropy(x, tensor(Uint32Array.of(masked)), weights).loss.item(), version).toBe(Number.POSITIVE_INFINITY);
    });
    expect(served).toBeGreaterThan(1);
  });
});
