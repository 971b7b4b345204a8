/** Normalizations of ONNX against onnxruntime: axes, groups, ranks, statistics as outputs. */
import { test } from 'vitest';
import { type Attributes, floatTensor, node } from '../bench/peers/onnx_writer.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { numbers } from './onnx_graphs.ts';
import { agrees, ort } from './onnx_oracle.ts';
import { useGpu } from './support.ts';

useGpu();

interface Case {
  op: string;
  x: number[];
  /** Shapes of scale and bias. */
  parameters?: number[][];
  attributes?: Attributes;
  outputs?: string[];
  opset?: number;
}

const CASES: Record<string, Case> = {
  'layer norm over the last axis': { op: 'LayerNormalization', x: [3, 5, 7], parameters: [[7], [7]] },
  'layer norm over two axes, without a bias': { op: 'LayerNormalization', x: [3, 5, 7], parameters: [[5, 7]], attributes: { axis: 1 } },
  'layer norm with a scale that repeats': { op: 'LayerNormalization', x: [3, 5, 7], parameters: [[7], [7]], attributes: { axis: 1, epsilon: { float: 0.1 } } },
  'layer norm with its statistics': { op: 'LayerNormalization', x: [3, 5, 7], parameters: [[7], [7]], outputs: ['y', 'mean', 'deviation'] },
  'instances of sequences': { op: 'InstanceNormalization', x: [2, 3, 11], parameters: [[3], [3]] },
  'instances of pictures': { op: 'InstanceNormalization', x: [2, 3, 5, 7], parameters: [[3], [3]], attributes: { epsilon: { float: 0.01 } } },
  'instances of volumes': { op: 'InstanceNormalization', x: [2, 3, 2, 5, 3], parameters: [[3], [3]] },
  'groups, a scale a channel': { op: 'GroupNormalization', x: [2, 6, 5, 3], parameters: [[6], [6]], attributes: { num_groups: 3 }, opset: 21 },
  'three neighboring channels': { op: 'LRN', x: [2, 7, 3, 3], attributes: { size: 3, alpha: { float: 0.1 } } },
  'more neighbors than channels': { op: 'LRN', x: [1, 3, 2, 2], attributes: { size: 9, alpha: { float: 0.5 } } },
  'mean and variance': { op: 'MeanVarianceNormalization', x: [2, 3, 4, 5] },
  'mean and variance of an axis': { op: 'MeanVarianceNormalization', x: [2, 3, 4], attributes: { axes: [1] } },
  'norm 1': { op: 'LpNormalization', x: [3, 5, 7], attributes: { p: 1, axis: 1 } },
  'norm 2': { op: 'LpNormalization', x: [3, 5, 7] },
};

test.skipIf(!ort).each(Object.entries(CASES))('%s', async (name, { op, x, parameters = [], attributes = {}, outputs = ['y'], opset = 17 }) => {
  const names = parameters.map((_, i) => `parameter${i}`);
  await agrees(
    name,
    {
      nodes: [node(op, ['x', ...names], outputs, attributes)],
      initializers: parameters.map((shape, i) => floatTensor(names[i], shape, numbers(names[i], sizeOf(shape), 1))),
      inputs: [{ name: 'x', shape: x }],
      outputs,
      opset,
    },
    { x: { shape: x, data: numbers('x', sizeOf(x), 1) } },
  );
});
