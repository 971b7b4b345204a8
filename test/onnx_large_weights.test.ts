/** Weights beyond one binding: which nodes are computed in parts, and that the parts are the whole. */
import { expect, test } from 'vitest';
import { floatTensor, node, onnxBytes } from '../bench/peers/onnx_writer.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { splitLargeProducts } from '../src/model/onnx/passes/large.ts';
import { type OnnxGraph, type OnnxTensor, readOnnx } from '../src/model/onnx/proto.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { numbers } from './onnx_graphs.ts';

const LIMIT = 4 * 120; // 120 numbers

interface Case {
  op: string;
  weight: number[];
  attributes?: Record<string, number>;
  /** The axis of the weight that is divided, and the parts along it; no parts where the node stays. */
  axis: number;
  parts: number[];
  joinedAlong?: number;
  others?: string[];
}

const CASES: Record<string, Case> = {
  'a product': { op: 'MatMul', weight: [10, 29], axis: 1, parts: [12, 12, 5], joinedAlong: -1 },
  'a product with rows for columns': { op: 'Gemm', weight: [29, 10], attributes: { transB: 1 }, axis: 0, parts: [12, 12, 5], joinedAlong: -1 },
  'a convolution': { op: 'Conv', weight: [11, 3, 2, 2], axis: 0, parts: [4, 4, 3], joinedAlong: 1, others: ['bias'] },
  'a convolution in one dimension': { op: 'Conv', weight: [17, 2, 4], axis: 0, parts: [4, 4, 4, 4, 1], joinedAlong: 1 },
  'a convolution of groups': { op: 'Conv', weight: [44, 3, 3, 3], attributes: { group: 2 }, axis: 0, parts: [] },
  'a weight that one binding holds': { op: 'MatMul', weight: [10, 12], axis: 1, parts: [] },
};

/** The parts of a tensor along an axis, joined. */
function joined(parts: readonly OnnxTensor[], shape: readonly number[], axis: number): number[] {
  const whole = new Array<number>(sizeOf(shape));
  const inner = sizeOf(shape.slice(axis + 1));
  let start = 0;
  for (const part of parts) {
    const width = part.shape[axis] * inner;
    part.load().data.forEach((value: number, i: number) => {
      whole[Math.floor(i / width) * shape[axis] * inner + start * inner + (i % width)] = value;
    });
    start += part.shape[axis];
  }
  return whole;
}

test.each(Object.entries(CASES))('%s', (_name, { op, weight, attributes = {}, axis, parts, joinedAlong, others = [] }) => {
  const initializers = [floatTensor('w', weight, numbers('w', sizeOf(weight))), floatTensor('bias', [weight[axis]], numbers('bias', weight[axis]))];
  const nodes = [node(op, ['x', 'w', ...others], ['y'], attributes)];
  const { graph } = readOnnx(bytesAsSource('model', onnxBytes({ nodes, initializers, inputs: [{ name: 'x', shape: [1, 1] }], outputs: ['y'] })));
  const loads = counted(graph, 'w');
  splitLargeProducts(graph, () => false, LIMIT);
  expect(graph.nodes.map((each) => each.op)).toEqual(parts.length > 0 ? [...parts.map(() => op), 'Concat'] : [op]);
  if (parts.length === 0) return;
  const ofInput = (i: number) => graph.nodes.slice(0, -1).map(({ inputs }) => graph.initializers.get(inputs[i]) as OnnxTensor);
  for (let run = 1; run <= 2; run++) {
    expect(ofInput(1).map(({ shape }) => shape[axis])).toEqual(parts);
    expect(joined(ofInput(1), weight, axis)).toEqual([...numbers('w', sizeOf(weight))]);
    expect(loads.count).toBe(run); // a file lets its bytes be read only so often
  }
  if (others.length > 0) expect(joined(ofInput(2), [weight[axis]], 0)).toEqual([...numbers('bias', weight[axis])]);
  expect(graph.nodes.at(-1)).toMatchObject({ inputs: graph.nodes.slice(0, -1).map(({ outputs }) => outputs[0]), outputs: ['y'] });
  expect(graph.nodes.at(-1)?.attributes.get('axis')).toBe(joinedAlong);
});

/** Counts how often a constant is read. */
function counted(graph: OnnxGraph, name: string): { count: number } {
  const loads = { count: 0 };
  const tensor = graph.initializers.get(name) as OnnxTensor;
  graph.initializers.set(name, {
    ...tensor,
    load: () => {
      loads.count++;
      return tensor.load();
    },
  });
  return loads;
}
