// What third parties compute, for tests to compare with. tfjs (CPU) gives the gradients of batch and layer normalization, the LSTM
// and GRU cells, additive attention and cross-entropy, and Adam's steps; each is written here with tfjs' own elementary ops.
//
//   node scripts/third_party.js        writes test/goldens/tfjs.json (needs `npm run oracles` first)
import { existsSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const ORACLES = new URL('../oracles/package.json', import.meta.url);

/** A module of the oracles' folder, or null when they are not installed. */
export function oracle(name) {
  if (!existsSync(new URL('../oracles/node_modules', import.meta.url))) return null;
  return createRequire(ORACLES)(name);
}

/** Small, repeatable pseudo-random numbers, −1 … 1. */
function numbers(count, seed) {
  let state = seed * 2654435761 + 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

const size = (shape) => shape.reduce((product, extent) => product * extent, 1);

/** Every case: op of the table, attrs, inputs, and tfjs' outputs and gradients of Σ output · cotangent. */
export function tfjsCases(tf, seed) {
  const sigmoid = tf.sigmoid;
  const recipes = [
    {
      op: 'batchNormTrain',
      attrs: { eps: 1e-5, layout: 'nhwc' },
      shapes: { x: [3, 4, 5, 6], gamma: [6], beta: [6] },
      run: ({ x, gamma, beta }) => {
        const { mean, variance } = tf.moments(x, [0, 1, 2]);
        return [
          x
            .sub(mean)
            .div(tf.sqrt(variance.add(1e-5)))
            .mul(gamma)
            .add(beta),
        ];
      },
    },
    {
      op: 'lstmCell',
      attrs: null,
      shapes: { gx: [5, 28], gh: [5, 28], c: [5, 7] },
      run: ({ gx, gh, c }) => {
        const [i, f, g, o] = tf.split(gx.add(gh), 4, 1);
        const cell = sigmoid(f)
          .mul(c)
          .add(sigmoid(i).mul(tf.tanh(g)));
        return [sigmoid(o).mul(tf.tanh(cell)), cell];
      },
    },
    {
      op: 'gruCell',
      attrs: null,
      shapes: { gx: [5, 21], gh: [5, 21], h: [5, 7] },
      run: ({ gx, gh, h }) => {
        const [xr, xz, xn] = tf.split(gx, 3, 1);
        const [hr, hz, hn] = tf.split(gh, 3, 1);
        const z = sigmoid(xz.add(hz));
        const n = tf.tanh(xn.add(sigmoid(xr.add(hr)).mul(hn)));
        return [tf.scalar(1).sub(z).mul(n).add(z.mul(h))];
      },
    },
    {
      op: 'layerNorm',
      attrs: { eps: 1e-5 },
      shapes: { x: [6, 11], gamma: [11], beta: [11] },
      run: ({ x, gamma, beta }) => {
        const { mean, variance } = tf.moments(x, 1, true);
        return [
          x
            .sub(mean)
            .div(tf.sqrt(variance.add(1e-5)))
            .mul(gamma)
            .add(beta),
        ];
      },
    },
    ...['tanh', 'relu'].map((score) => ({
      op: 'additiveAttention',
      attrs: { score },
      shapes: { keys: [3, 9, 12], query: [3, 12], v: [12], values: [3, 9, 8] },
      run: ({ keys, query, v, values }) => {
        const scores = tf[score](keys.add(query.expandDims(1)))
          .mul(v)
          .sum(2);
        const alpha = tf.softmax(scores);
        return [alpha.expandDims(2).mul(values).sum(1), alpha];
      },
    })),
    ...[0, 0.1].map((smoothing) => ({
      op: 'crossEntropy',
      attrs: { smoothing },
      shapes: { logits: [7, 20] },
      fixed: { targets: [3, 0, 19, 7, 7, 1, 12], weights: [1, 0.5, 0, 2, 1, 0.25, 0] },
      run: ({ logits }, { targets, weights }) => {
        const wanted = tf
          .oneHot(tf.tensor1d(targets, 'int32'), 20)
          .mul(1 - smoothing)
          .add(smoothing / 20);
        const perRow = tf.logSoftmax(logits).mul(wanted).sum(1);
        return [tf.neg(perRow.mul(tf.tensor1d(weights))).sum()];
      },
    })),
  ];
  const cases = recipes.map(({ op, attrs, shapes, fixed, run }, k) => {
    const inputs = Object.fromEntries(Object.entries(shapes).map(([name, shape], i) => [name, { shape, data: numbers(size(shape), seed + 31 * k + i) }]));
    const tensors = Object.values(inputs).map(({ shape, data }) => tf.tensor(data, shape));
    const names = Object.keys(shapes);
    const named = (list) => Object.fromEntries(names.map((name, i) => [name, list[i]]));
    const outputs = run(named(tensors), fixed);
    const cotangents = outputs.map((output, i) => numbers(size(output.shape), seed + 1000 + 31 * k + i));
    const loss = (...list) =>
      run(named(list), fixed).reduce((sum, output, i) => sum.add(output.mul(tf.tensor(cotangents[i], output.shape)).sum()), tf.scalar(0));
    const gradients = tf.grads(loss)(tensors);
    return {
      op,
      attrs,
      inputs: Object.fromEntries(Object.entries(inputs).map(([name, { shape, data }]) => [name, { shape, data: [...data] }])),
      fixed: fixed ?? null,
      cotangents: cotangents.map((values) => [...values]),
      outputs: outputs.map((output) => ({ shape: output.shape, data: [...output.dataSync()] })),
      gradients: Object.fromEntries(names.map((name, i) => [name, [...gradients[i].dataSync()]])),
    };
  });
  // Adam: five steps on given gradients.
  const start = numbers(11, seed + 77);
  const slopes = Array.from({ length: 5 }, (_, i) => numbers(11, seed + 80 + i));
  const variable = tf.variable(tf.tensor1d(start));
  const optimizer = tf.train.adam(1e-2, 0.9, 0.999, 1e-8);
  for (const slope of slopes) optimizer.applyGradients([{ name: variable.name, tensor: tf.tensor1d(slope) }]);
  return { cases, adam: { start: [...start], gradients: slopes.map((slope) => [...slope]), rate: 1e-2, after: [...variable.dataSync()] } };
}

if (process.argv[1] && import.meta.url.endsWith(process.argv[1].split('/').pop())) {
  const tf = oracle('@tensorflow/tfjs');
  if (!tf) throw new Error('install the oracles first: npm run oracles');
  await tf.setBackend('cpu');
  writeFileSync(new URL('../test/goldens/tfjs.json', import.meta.url), `${JSON.stringify(tfjsCases(tf, 5))}\n`);
}
