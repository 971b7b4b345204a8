/**
 * Checks the gradient of any composition of ops. For each input, the slope of the loss along the input's gradient must equal the
 * norm of that gradient. The slope in this direction is the steepest, so it is far above the noise of float32.
 */
import type { Shape } from '../tensor/shape.ts';
import { scope, type Tensor, tensor } from '../tensor/tensor.ts';
import { backward, gradOf, noGrad, variable } from './tape.ts';

/** What `gradcheck` found; `ok` if every slope equals the norm of its gradient within the tolerance. */
export interface GradcheckResult {
  ok: boolean;
  /** For each input: the norm of its gradient, and the measured slope. */
  inputs: { norm: number; slope: number }[];
}

/**
 * Compares the gradients of `f` with measured slopes, one input after the other. `f` maps the inputs to one number. `h` is the
 * length of the step along a gradient; `rtol` is the largest relative difference allowed.
 */
export async function gradcheck(
  f: (...inputs: Tensor[]) => Tensor,
  inputs: readonly { shape: Shape; data: Float32Array }[],
  { h = 1e-2, rtol = 2e-2 } = {},
): Promise<GradcheckResult> {
  const gradients: Float32Array[] = [];
  {
    using _s = scope();
    const variables = inputs.map(({ shape, data }) => variable(tensor(data, shape)));
    backward(f(...variables));
    for (const x of variables) gradients.push(((await gradOf(x)?.data()) as Float32Array | undefined) ?? new Float32Array(x.size));
  }
  const results: GradcheckResult['inputs'] = [];
  for (const [k, gradient] of gradients.entries()) {
    const norm = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
    const value = async (sign: number): Promise<number> => {
      using _s = scope();
      const moved = inputs.map(({ shape, data }, i) => tensor(i === k ? data.map((x, j) => x + (sign * h * gradient[j]) / (norm || 1)) : data, shape));
      return noGrad(() => f(...moved)).item();
    };
    results.push({ norm, slope: ((await value(1)) - (await value(-1))) / (2 * h) });
  }
  return { ok: results.every(({ norm, slope }) => Math.abs(norm - slope) <= rtol * Math.max(norm, Math.abs(slope)) + 1e-4), inputs: results };
}
