/** Norms fold into convolutions and what follows them is fused: the numbers stay. */

import { expect, test } from 'vitest';
import { floatTensor, node } from '../bench/peers/onnx_writer.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { openFile } from '../src/data/file_source.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { graphSaver, numbers, outputOf, residualBlock } from './onnx_graphs.ts';
import { useGpu } from './support.ts';

useGpu();
const save = graphSaver();

test('folded and fused, a residual block gives what its parts give', async () => {
  using _s = scope();
  const path = save(residualBlock());
  const fused = OnnxModel.load(openFile(path));
  const plain = OnnxModel.load(openFile(path), { trainable: (name) => /^w\d|^n\d/.test(name) });
  expect(fused.graph.nodes.map((n) => n.op)).toEqual(['Transpose', 'FusedConv', 'FusedConv', 'GlobalAveragePool', 'Transpose', 'Reshape', 'Gemm']);
  expect(plain.graph.nodes.map((n) => n.op)).toContain('BatchNormalization');
  expect(fused.featureMapName).toBe('y');
  const x = tensor(numbers('x', 2 * 8 * 7 * 5), [2, 8, 7, 5]);
  const [a, map] = fused.run({ x }, ['out', 'y']);
  const [b] = noGrad(() => plain.run({ x }));
  expect(map.shape).toEqual([2, 8, 7, 5]);
  expect(fused.run({ x }, ['y'], true)[0].shape).toEqual([2, 7, 5, 8]);
  const [left, right] = [await a.data(), await b.data()];
  left.forEach((value, i) => {
    expect(value).toBeCloseTo(right[i], 4);
  });
  fused.dispose();
  plain.dispose();
});

test('norms without names fold apart', async () => {
  using _s = scope();
  const norm = (scale: number, i: number) => [floatTensor(`g${i}`, [1], [scale]), floatTensor(`zero${i}`, [1], [0]), floatTensor(`one${i}`, [1], [1])];
  const conv = { kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1], dilations: [1, 1], group: 1 };
  const unnamed = (buffer: Buffer, name: string) =>
    Buffer.from(buffer.toString('latin1').replace(`BatchNormalization of ${name}`, 'BatchNormalization of nn'), 'latin1');
  const parts = {
    nodes: [
      node('Conv', ['x', 'w1'], ['c1'], conv),
      unnamed(node('BatchNormalization', ['c1', 'g1', 'zero1', 'zero1', 'one1'], ['b1'], { epsilon: { float: 0 } }), 'b1'),
      node('Conv', ['b1', 'w2'], ['c2'], conv),
      unnamed(node('BatchNormalization', ['c2', 'g2', 'zero2', 'zero2', 'one2'], ['b2'], { epsilon: { float: 0 } }), 'b2'),
    ],
    initializers: [floatTensor('w1', [1, 1, 1, 1], [1]), floatTensor('w2', [1, 1, 1, 1], [1]), ...norm(2, 1), ...norm(5, 2)],
    inputs: [{ name: 'x', shape: [1, 1, 2, 2] }],
    outputs: ['b2'],
  };
  expect(await outputOf(save(parts), { x: tensor([1, 2, 3, 4], [1, 1, 2, 2]) })).toEqual([10, 20, 30, 40]);
});
