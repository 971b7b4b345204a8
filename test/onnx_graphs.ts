/** Graphs for tests of the importer: written, run, and with numbers that are the same in every test, whatever ran before. */

import { join } from 'node:path';
import { floatTensor, intTensor, node, type OnnxParts, onnxBytes, writeOnnx } from '../bench/peers/onnx_writer.ts';
import { noGrad } from '../src/autograd/tape.ts';
import { bytesAsSource } from '../src/data/bytes.ts';
import { openFile } from '../src/data/file_source.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { Random } from '../src/random.ts';
import { sizeOf } from '../src/tensor/shape.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { temporaryFolder } from './support.ts';

/** What writes each graph to a file of its own, in a folder that goes with the test file. */
export function graphSaver(): (parts: OnnxParts) => string {
  const folder = temporaryFolder();
  let files = 0;
  return (parts) => {
    const path = join(folder, `${files++}`, 'model.onnx');
    writeOnnx(path, parts);
    return path;
  };
}

/** The first output of the model in a file. */
export async function outputOf(path: string, inputs: Record<string, Tensor>): Promise<number[]> {
  const model = OnnxModel.load(openFile(path));
  const [out] = model.run(inputs);
  const values = [...(await out.data())];
  model.dispose();
  return values;
}

/** Operators that are left, and results for inputs of random numbers, of a graph rewritten without the passes that are named. */
export async function resultsOf(
  parts: OnnxParts,
  without: readonly string[],
): Promise<{ ops: string[]; values: ArrayLike<number>[]; shapes: (readonly number[])[] }> {
  using _s = scope();
  const model = OnnxModel.load(bytesAsSource('model', onnxBytes(parts)), { without });
  const inputs = Object.fromEntries(parts.inputs.map(({ name, shape }) => [name, tensor(numbers(name, sizeOf(shape), 1), shape)]));
  const results = noGrad(() => model.run(inputs)) as Tensor[];
  const values = await Promise.all(results.map((result) => result.data()));
  const ops = model.graph.nodes.map(({ op }) => op);
  model.dispose();
  return { ops, values, shapes: results.map(({ shape }) => shape) };
}

/** Normally distributed numbers; `name` chooses the stream, so that two tensors differ. */
export function numbers(name: string, count: number, scale = 0.5): Float32Array {
  const random = new Random(3, name);
  return Float32Array.from({ length: count }, () => scale * random.normal());
}

function positive(name: string, count: number): Float32Array {
  const random = new Random(3, name);
  return Float32Array.from({ length: count }, () => random.uniform(0.5, 2));
}

/** A residual block as torchvision exports it: conv, norm, relu, conv, norm, add, relu, pool, classifier. */
export function residualBlock(): OnnxParts {
  const conv = (name: string) => floatTensor(name, [8, 8, 3, 3], numbers(name, 576, 0.2));
  const norm = (name: string) => [
    floatTensor(`${name}.gamma`, [8], positive(`${name}.gamma`, 8)),
    floatTensor(`${name}.beta`, [8], numbers(`${name}.beta`, 8)),
    floatTensor(`${name}.mean`, [8], numbers(`${name}.mean`, 8)),
    floatTensor(`${name}.var`, [8], positive(`${name}.var`, 8)),
  ];
  const same = { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1], dilations: [1, 1], group: 1 };
  const normInputs = (x: string, name: string) => [x, `${name}.gamma`, `${name}.beta`, `${name}.mean`, `${name}.var`];
  return {
    nodes: [
      node('Conv', ['x', 'w1'], ['c1'], same),
      node('BatchNormalization', normInputs('c1', 'n1'), ['b1'], { epsilon: { float: 1e-5 } }),
      node('Relu', ['b1'], ['r1']),
      node('Conv', ['r1', 'w2'], ['c2'], same),
      node('BatchNormalization', normInputs('c2', 'n2'), ['b2'], { epsilon: { float: 1e-5 } }),
      node('Add', ['b2', 'x'], ['s']),
      node('Relu', ['s'], ['y']),
      node('GlobalAveragePool', ['y'], ['p']),
      node('Shape', ['p'], ['shape']),
      node('Gather', ['shape', 'zero'], ['n']),
      node('Unsqueeze', ['n', 'axis0'], ['n1d']),
      node('Concat', ['n1d', 'rest'], ['flat'], { axis: 0 }),
      node('Reshape', ['p', 'flat'], ['f']),
      node('Gemm', ['f', 'fc.w', 'fc.b'], ['out'], { transB: 1 }),
    ],
    initializers: [
      conv('w1'),
      conv('w2'),
      ...norm('n1'),
      ...norm('n2'),
      intTensor('zero', [], [0]),
      intTensor('axis0', [1], [0]),
      intTensor('rest', [1], [-1]),
      floatTensor('fc.w', [5, 8], numbers('fc.w', 40)),
      floatTensor('fc.b', [5], numbers('fc.b', 5)),
    ],
    inputs: [{ name: 'x', shape: [-1, 8, 7, 5] }],
    outputs: ['out'],
  };
}
