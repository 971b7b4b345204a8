/**
 * A kernel of your own as an op with a gradient: own_kernel.wgsl computes y = x σ(x). The op is checked against its definition in
 * float64, and the gradient of a whole composition by what the loss does along it.
 *
 *   npx tsx examples/own_kernel.ts
 */
import { readFileSync } from 'node:fs';
import { apply, checkOp, empty, gradcheck, type Op, openGpu, ops, reference, scoped, sizeOf, type Tensor, tensor } from 'glimpse';

const source = readFileSync(new URL('own_kernel.wgsl', import.meta.url), 'utf8');

/** Records one dispatch: storages in the order of the shader's bindings, the fields of its Params by name, workgroups of 64. */
function launch(x: Tensor, dy: Tensor | null, out: Tensor, label: string): void {
  const kernel = x.gpu.kernel({ file: 'own_kernel', source, constants: { GRADIENT: dy ? 1 : 0 } });
  x.gpu.dispatch(kernel, [x.slice, (dy ?? x).slice, out.slice], { count: x.size }, [Math.ceil(x.size / 64), 1, 1], label);
}

const swishOp: Op<null> = {
  name: 'swish',
  inputs: ['x'],
  outputs: ['y'],
  shape: ([x]) => [x], // shapes of the outputs; a rule that does not fit throws a ShapeError
  forward: ({ inputs: [x], outputs: [y], label }) => launch(x, null, y, label),
  saves: ['x'], // what the gradient reads
  backward: ({ saved: { x }, grads: [dy], label }) => [
    () => {
      const dx = empty(x.shape, 'f32', label);
      launch(x, dy, dx, label);
      return dx;
    },
  ],
  reference: ([x]) => [reference(x.shape, (i) => x.data[i] / (1 + Math.exp(-x.data[i])))],
  cost: ([x]) => ({ flops: 5 * sizeOf(x), bytes: 8 * sizeOf(x) }),
  cases: [[1], [37, 113]].map((shape) => ({ name: `[${shape}]`, shapes: [shape], attrs: null })), // less and more than a workgroup
};
const swish = (x: Tensor) => apply(swishOp, [x], null)[0];

const gpu = await openGpu();
await scoped(async () => {
  console.log('swish', [...(await swish(tensor([-2, 0, 2])).data())]);
  for (const { case: name, status } of await checkOp(swishOp)) console.log(name, status);
  const f = (x: Tensor, w: Tensor) => ops.sum(ops.square(swish(ops.matmul(x, w))));
  const { ok, inputs } = await gradcheck(f, [
    { shape: [2, 3], data: Float32Array.of(1, -2, 0.5, 0, 1, -1) },
    { shape: [3, 2], data: Float32Array.of(0.3, -0.1, 0.2, 0.4, -0.5, 0.6) },
  ]);
  console.log('gradcheck', ok, inputs.map(({ norm, slope }) => `|gradient| ${norm.toFixed(3)}, slope ${slope.toFixed(3)}`).join('; '));
});
await gpu.close();

// prints:
// swish [ -0.238406, 0, 1.761594 ]
// [1] passed
// gradient of [1] passed
// [37,113] passed
// gradient of [37,113] passed
// a NaN in x, [1] passed
// gradient with a NaN in x, [1] passed
// gradient of x from a NaN, [1] passed
// gradcheck true |gradient| 0.509, slope 0.509; |gradient| 1.274, slope 1.274
