/** Shaders that the user gives as a text. */
import { expect, test } from 'vitest';
import { scope, tensor, zeros } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

const device = useGpu();

test('a shader may be a text of the user: one kernel for each text and each set of constants, errors by its name and line', async () => {
  using _s = scope();
  const text = (expression: string) => `
override FACTOR: f32 = 1.0;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3u) {
  y[id.x] = FACTOR * ${expression};
}`;
  const { gpu } = device;
  const run = async (source: string, FACTOR: number) => {
    const [x, y] = [tensor([1, 2, 3]), zeros([3])];
    gpu.dispatch(gpu.kernel({ file: 'mine', source, constants: { FACTOR } }), [x.slice, y.slice], {}, [3, 1, 1]);
    return [...(await y.data())];
  };
  expect(await run(text('x[id.x]'), 2)).toEqual([2, 4, 6]);
  expect(await run(text('x[id.x]'), 3)).toEqual([3, 6, 9]);
  expect(await run(text('x[2u - id.x]'), 2)).toEqual([6, 4, 2]);
  const kernel = () => gpu.kernel({ file: 'mine', source: text('x[id.x]'), constants: { FACTOR: 2 } });
  expect(kernel()).toBe(kernel());
  expect(() => gpu.kernel({ file: 'mine', source: text('no_such_name') })).toThrow(/compiling mine: [\s\S]*no_such_name[\s\S]*7 \|/);
});
