/**
 * Checks the gradient of any composition of ops by what the loss does along it: for each input, the slope of f in the
 * direction of its own gradient must be the gradient's norm. One direction per input keeps float32's noise far below the slope.
 */
import type { Shape } from '../tensor/shape.ts';
import { scope, type Tensor, tensor } from '../tensor/tensor.ts';
import { backward, gradOf, noGrad, variable } from './tape.ts';

export interface GradcheckResult {
  ok: boolean;
  /** Per input: the gradient's norm and the slope that was measured. */
  inputs: { norm: number; slope: number }[];
}

/** `f` maps the inputs to one number. `h` is the length of the step, `rtol` the largest relative difference allowed. */
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
