/**
 * An LSTM learns to write one sentence, letter by letter, and then writes it by itself from the first letter.
 *
 *   npx tsx examples/lstm_learns.ts
 */
import { backward, glorotUniform, noGrad, Optimizer, openGpu, ops, Parameters, readTensors, scoped, type Tensor, tensor, zeros } from 'glimpse';

const TEXT = 'a glimpse is what attention takes of the picture before each word.';
const LETTERS = [...new Set(TEXT)];
const HIDDEN = 48;
const ids = Uint32Array.from(TEXT, (letter) => LETTERS.indexOf(letter));
const steps = TEXT.length - 1;

const gpu = await openGpu();
const parameters = new Parameters();
const make = (name: string, shape: number[]) => parameters.init(name, shape, glorotUniform, 1); // 1 is the random seed
const [embedding, out] = [make('embedding', [LETTERS.length, 16]), make('out', [HIDDEN, LETTERS.length])];
const [w, u, b] = [make('w', [16, 4 * HIDDEN]), make('u', [HIDDEN, 4 * HIDDEN]), make('b', [4 * HIDDEN])]; // of the gates i, f, g, o
const optimizer = new Optimizer(parameters, { kind: 'adam', rate: 0.02, maxNorm: 1 });
const start = () => ({ h: zeros([1, HIDDEN]), c: zeros([1, HIDDEN]) });
const step = (gx: Tensor, { h, c }: { h: Tensor; c: Tensor }) => ops.lstmCell(gx, ops.matmul(h, u), c);
const inGates = (letters: Tensor) => ops.matmul(ops.embedding(embedding, letters), w, { bias: b });

/** Cross-entropy of every letter given those before it, in nats a letter. */
function meanLoss(): Tensor {
  const gx = inGates(tensor(ids.slice(0, -1))); // in one product over all letters, as it does not depend on the state
  const hidden: Tensor[] = [];
  for (let t = 0, state = start(); t < steps; t++) {
    state = step(ops.slice(gx, [t, 0], [1, 4 * HIDDEN]), state);
    hidden.push(state.h);
  }
  return ops.crossEntropy(ops.matmul(ops.concat(hidden), out), tensor(ids.slice(1)), tensor(new Float32Array(steps).fill(1 / steps))).loss;
}

for (let update = 0; update < 60; update++) {
  await scoped(async () => {
    optimizer.zeroGrad(); // before each backward(): gradients add up
    const loss = meanLoss();
    backward(loss);
    optimizer.step();
    if (update % 20 === 0) console.log(`update ${update}: ${(await loss.item()).toFixed(1)} nats a letter`);
  });
}

const written: Tensor[] = [];
noGrad(() => {
  for (let t = 0, state = start(), letter = tensor(ids.slice(0, 1)); t < steps; t++) {
    state = step(inGates(letter), state);
    letter = ops.argmaxToken(ops.matmul(state.h, out)).token; // stays on the GPU until all are read
    written.push(letter);
  }
});
console.log(TEXT[0] + (await readTensors(written)).map(([id]) => LETTERS[id]).join(''));
await gpu.close();

// prints, numbers within 25 %:
// update 0: 3.1 nats a letter
// update 20: 0.9 nats a letter
// update 40: 0.0 nats a letter
// a glimpse is what attention takes of the picture before each word.
