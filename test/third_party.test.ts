/** tfjs decides: batch and layer normalization, LSTM and GRU cells, attention, cross-entropy and Adam, from committed numbers and live. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { oracle, tfjsCases } from '../scripts/third_party.js';
import { compare } from '../src/autograd/check.ts';
import type { Op } from '../src/autograd/op.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { apply, backward, gradOf, variable } from '../src/autograd/tape.ts';
import { Optimizer } from '../src/nn/optimizer.ts';
import { Parameters } from '../src/nn/parameters.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { useGpu } from './support.ts';

useGpu();

interface Case {
  op: string;
  attrs: unknown;
  inputs: Record<string, { shape: number[]; data: number[] }>;
  fixed: Record<string, number[]> | null;
  cotangents: number[][];
  outputs: { shape: number[]; data: number[] }[];
  gradients: Record<string, number[]>;
}
interface Golden {
  cases: Case[];
  adam: { start: number[]; gradients: number[][]; rate: number; after: number[] };
}

/** Both sides compute in float32. */
const close = (actual: ArrayLike<number>, expected: ArrayLike<number>) => expect(compare(actual, expected, 2e-4, 2e-5)).toMatchObject({ ok: true });

async function checkCase(c: Case): Promise<void> {
  using _s = scope();
  const op = OPS.find(({ name }) => name === c.op) as Op;
  const inputs = op.inputs.map((name, i) => {
    const given = c.inputs[name];
    return given ? variable(tensor(given.data, given.shape)) : tensor(c.fixed?.[name] ?? [], undefined, op.inputTypes?.[i]);
  });
  const outputs = apply(op, inputs, c.attrs);
  let loss: Tensor | null = null;
  for (const [i, expected] of c.outputs.entries()) {
    close(await outputs[i].data(), expected.data);
    const part = ops.sum(ops.mul(outputs[i], tensor(c.cotangents[i], outputs[i].shape)));
    loss = loss ? ops.add(loss, part) : part;
  }
  backward(loss as Tensor);
  for (const [i, name] of op.inputs.entries()) if (c.gradients[name]) close(await (gradOf(inputs[i]) as Tensor).data(), c.gradients[name]);
}

async function checkAdam({ start, gradients, rate, after }: Golden['adam']): Promise<void> {
  using _s = scope();
  const parameters = new Parameters();
  const p = parameters.add('p', [start.length], Float32Array.from(start));
  const optimizer = new Optimizer(parameters, { kind: 'adam', rate });
  for (const gradient of gradients) {
    optimizer.zeroGrad();
    backward(ops.sum(ops.mul(p, tensor(gradient))));
    optimizer.step();
  }
  close(await p.data(), after);
  optimizer.dispose();
  parameters.dispose();
}

function suite(golden: Golden): void {
  const nameOf = ({ op, attrs }: Case) => [op, ...Object.entries(attrs ?? {}).map(([name, value]) => `${name} ${value}`)].join(', ');
  test.each(golden.cases.map((c) => [nameOf(c), c] as const))('%s', (_name, c) => checkCase(c));
  test('Adam', () => checkAdam(golden.adam));
}

describe('tfjs, committed', () => {
  suite(JSON.parse(readFileSync(new URL('./goldens/tfjs.json', import.meta.url), 'utf8')));
});

const tf = oracle('@tensorflow/tfjs');
if (!tf) console.warn('SKIPPED: live tfjs comparison; install it with `npm run oracles`');
describe.skipIf(!tf)('tfjs, live, on other numbers', () => {
  if (!tf) return;
  suite(tfjsCases(tf, 99));
});
