/** The weights of a vision transformer from its ONNX file, for peers whose model is written in their own operations. */
import { FileError } from '../src/errors.ts';
import { transposed } from '../src/model/encoder/vit.ts';
import type { NamedArray } from '../src/nn/parameters.ts';
import { openGraph } from './model_files.ts';
import { PATCH, PATCHES, type VitWork } from './work.ts';

/** A matrix stands as [in, out], so that rows are multiplied by it. */
export interface Linear {
  weight: NamedArray;
  bias: NamedArray;
}

export interface Norm {
  gain: NamedArray;
  bias: NamedArray;
}

export interface VitWeights {
  /** Kernel [width, 3, 16, 16]. */
  patches: Linear;
  /** [1, 1, width] */
  classToken: NamedArray;
  /** [1, 197, width] */
  positions: NamedArray;
  /** `attend` makes queries, keys and values, side by side. */
  blocks: { norm1: Norm; attend: Linear; out: Linear; norm2: Norm; widen: Linear; narrow: Linear }[];
  norm: Norm;
  head: Linear;
  /** Of every norm, within its square root. */
  epsilon: number;
}

/**
 * Reads the weights, which lie in the file in the order of the blocks. Names do not help: exporters rename matrices. Throws a FileError
 * for a graph in another form than that of scripts/torchvision_onnx.py.
 */
export async function vitWeights({ model, blocks: count, width, hidden, classes }: VitWork): Promise<VitWeights> {
  const { graph, close } = await openGraph(model);
  try {
    const refuse = (found: string): never => {
      throw new FileError(model, `${found}: its weights can only be taken from a graph as scripts/torchvision_onnx.py exports it`);
    };
    /** What nodes of an operator read of this shape, in their order; without an operator, all nodes. */
    const read = (op: string | null, times: number, ...shape: number[]): NamedArray[] => {
      const inputs = graph.nodes.filter((node) => op === null || node.op === op).flatMap((node) => node.inputs);
      const found = inputs.flatMap((name) => graph.initializers.get(name) ?? []).filter((each) => each.kind === 'float' && each.shape.join() === shape.join());
      if (found.length !== times) refuse(`has ${found.length} weights [${shape.join(', ')}] at ${op ?? 'all'} nodes, not ${times}`);
      return found.map((each) => ({ shape, data: Float32Array.from(each.load().data) }));
    };
    if (graph.nodes.some(({ op, attributes }) => op === 'Gemm' && attributes.get('transB') !== 1)) refuse('has a Gemm node without transB');
    const epsilons = new Set(graph.nodes.flatMap(({ op, attributes }) => (op === 'LayerNormalization' ? [Number(attributes.get('epsilon') ?? 1e-5)] : [])));
    if (epsilons.size !== 1) refuse(`has LayerNormalization nodes with ${epsilons.size} values of epsilon, not 1`);

    const linear = (weight: NamedArray, bias: NamedArray): Linear => ({ weight, bias });
    const linears = (weights: readonly NamedArray[], biases: readonly NamedArray[]) => weights.map((weight, i) => linear(weight, biases[i]));
    const gemms = (times: number, inputs: number, outputs: number) =>
      linears(
        read('Gemm', times, outputs, inputs).map(({ shape, data }) => ({ shape: [inputs, outputs], data: transposed(data, shape) })),
        read('Gemm', times, outputs),
      );
    const products = (inputs: number, outputs: number) => linears(read('MatMul', count, inputs, outputs), read('Add', count, outputs));
    const normed = read('LayerNormalization', 2 * (2 * count + 1), width);
    const norms = Array.from({ length: 2 * count + 1 }, (_, i): Norm => ({ gain: normed[2 * i], bias: normed[2 * i + 1] }));
    const [attend, out, widen, narrow] = [products(width, 3 * width), gemms(count, width, width), products(width, hidden), products(hidden, width)];
    return {
      patches: linear(read('Conv', 1, width, 3, PATCH, PATCH)[0], read('Conv', 1, width)[0]),
      classToken: read(null, 1, 1, 1, width)[0],
      positions: read(null, 1, 1, PATCHES + 1, width)[0],
      blocks: attend.map((each, i) => ({ norm1: norms[2 * i], attend: each, out: out[i], norm2: norms[2 * i + 1], widen: widen[i], narrow: narrow[i] })),
      norm: norms[2 * count],
      head: gemms(1, width, classes)[0],
      epsilon: [...epsilons][0],
    };
  } finally {
    close();
  }
}
