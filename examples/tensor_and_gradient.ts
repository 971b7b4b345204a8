/**
 * Tensors, a loss, its gradient: the line y = w x + b through four points, found by gradient descent.
 *
 *   npx tsx examples/tensor_and_gradient.ts
 */
import { backward, gradOf, Optimizer, openGpu, ops, Parameters, scoped, tensor } from 'glimpse';

const gpu = await openGpu(); // a GPU, else a software driver; tensors live there
const parameters = new Parameters(); // variables by name: backward() computes gradients of them
const w = parameters.add('w', [1], Float32Array.of(0));
const b = parameters.add('b', [1], Float32Array.of(0));
const optimizer = new Optimizer(parameters, { kind: 'sgd', rate: 0.1 });
const x = tensor([-1, 0, 1, 2]);
const y = tensor([-1, 1, 3, 5]);

const meanSquaredError = () => ops.mean(ops.square(ops.sub(ops.add(ops.mul(x, w), b), y)));

await scoped(async () => {
  const loss = meanSquaredError();
  backward(loss); // adds d loss / d w to the gradient of w, and d loss / d b to that of b
  console.log('loss', await loss.item()); // reading a value waits for the device
  console.log('gradient of w', await gradOf(w)?.item(), 'of b', await gradOf(b)?.item());
});

for (let step = 0; step < 200; step++) {
  scoped(() => {
    optimizer.zeroGrad(); // gradients add up: clear them before the backward() of each update
    backward(meanSquaredError());
    optimizer.step(); // p ← p − 0.1 · gradient
  }); // the tensors made in this step are disposed here
}
console.log('w', await w.item(), 'b', await b.item());
await gpu.close();

// prints:
// loss 9
// gradient of w -7 of b -4
// w 2 b 1
