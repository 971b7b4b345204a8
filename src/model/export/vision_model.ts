/**
 * A vision transformer of Hugging Face (encoder/vit.ts) as an ONNX model that ends with its regions, as the decoder takes them. Trained
 * weights take the place of the file's.
 *
 *   pixels [pictures, 3, side, side] → tokens → layers → features [pictures, regions, F], without the tokens before the patches
 */
import { openFile } from '../../data/file_source.ts';
import { parseWeights } from '../../data/safetensors_format.ts';
import { FileError } from '../../errors.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import { readVisionConfig, type VisionFiles } from '../encoder/hugging_face.ts';
import { type Activation, type Family, visionWeights } from '../encoder/vit.ts';
import { type Chunks, lengthOf, MAX_MESSAGE, modelMessage } from '../onnx/writer.ts';
import { GraphBuilder, IR_VERSION, OPSET, type Port, PRODUCER, type Value } from './graph.ts';

const ACTIVATIONS: Record<Activation, (g: GraphBuilder, x: Value) => Value> = {
  gelu: (g, x) => g.mul(g.mul(x, g.float(0.5)), g.add(g.node('Erf', [g.mul(x, g.float(Math.SQRT1_2))]), g.float(1))),
  gelu_new: (g, x) => g.geluTanh(x),
  quick_gelu: (g, x) => g.mul(x, g.sigmoid(g.mul(x, g.float(1.702)))),
  relu: (g, x) => g.relu(x),
};

export interface VisionExport {
  /** The value that the features are: `last_hidden_state`, or `hidden_states.N`. */
  featureMap: string;
  /** Side of the pictures, in pixels. */
  side: number;
  /** Trained weights, by the names of visionWeights. */
  tuned: ReadonlyMap<string, NamedArray>;
  /** Of glimpse, for the file. */
  version: string;
}

/** The model of an encoder's files. Throws a FileError that names what does not fit, or if the model would be too large for one file. */
export function visionModel(files: VisionFiles, { featureMap, side, tuned, version }: VisionExport): { bytes: Chunks; input: Port; output: Port } {
  const { config } = readVisionConfig(files.config);
  const file = openFile(files.weights);
  try {
    const { family: of, run, weights, isNormed, side: pictureSide } = visionWeights(config, files.weights, parseWeights(file), featureMap, side);
    const family: Family = of;
    const { width, heads, patch, epsilon, activation } = config;
    const [grid, leading] = [(pictureSide / patch) ** 2, family.leading.length];
    const lost = [...tuned.keys()].find((name) => !weights.has(name));
    if (lost !== undefined) throw new FileError(files.weights, `has no weights "${lost}" before its features, which the model trained`);
    const input: Port = { name: 'pixels', type: 'float', shape: ['pictures', 3, pictureSide, pictureSide], doc: 'prepared pictures' };
    const output: Port = { name: 'features', type: 'float', shape: ['pictures', grid, width], doc: 'feature maps' };

    const g = new GraphBuilder();
    for (const port of [input, output]) g.reserve(port);
    const weight = (name: string, shape?: readonly number[]): Value => {
      const found = weights.get(name);
      if (!found) throw new FileError(files.weights, `has no tensor "${name}"`);
      return g.weight(name, shape ?? found.shape, tuned.get(name)?.data ?? found.load());
    };
    const linear = (x: Value, name: string): Value => {
      const product = g.matmul(x, weight(`${name}.weight`));
      return weights.has(`${name}.bias`) ? g.add(product, weight(`${name}.bias`)) : product;
    };
    const norm = (x: Value, name: string) => g.layerNorm(x, weight(`${name}.weight`), weight(`${name}.bias`), epsilon);
    const each = width / heads;
    const split = (x: Value, perm: readonly number[]) => g.transpose(g.reshape(x, [0, 0, heads, each]), perm);

    const patches = [input.name, weight(`${family.patches}.weight`), ...(family.patchBias ? [weight(`${family.patches}.bias`)] : [])];
    const convolved = g.node('Conv', patches, { kernel_shape: [patch, patch], strides: [patch, patch] });
    const rows = g.transpose(g.reshape(convolved, [0, width, -1]), [0, 2, 1]);
    const count = g.concat([g.extent(input.name, 0), g.wholes([1, width])], 0);
    const tokens = family.leading.map((name) => g.node('Expand', [weight(name, [1, 1, width]), count]));
    let x = g.add(g.concat([...tokens, rows], 1), weight(family.positions, [1, grid + leading, width]));
    if (family.normBefore) x = norm(x, family.normBefore);
    for (let i = 0; i < run; i++) {
      const at = (part: keyof Family['block']) => `${family.layers}.${i}.${family.block[part]}`;
      const scaled = (part: Value, which: 0 | 1) => (family.scales ? g.mul(part, weight(`${family.layers}.${i}.${family.scales[which]}`)) : part);
      const seen = norm(x, at('norm1'));
      const [query, value] = [split(linear(seen, at('query')), [0, 2, 1, 3]), split(linear(seen, at('value')), [0, 2, 1, 3])];
      const scores = g.mul(g.matmul(query, split(linear(seen, at('key')), [0, 2, 3, 1])), g.float(1 / Math.sqrt(each)));
      const mixed = g.reshape(g.transpose(g.matmul(g.softmax(scores), value), [0, 2, 1, 3]), [0, 0, width]);
      x = g.add(x, scaled(linear(mixed, at('out')), 0));
      const inner = ACTIVATIONS[activation](g, linear(norm(x, at('norm2')), at('inner')));
      x = g.add(x, scaled(linear(inner, at('outer')), 1));
    }
    if (isNormed && family.normAfter) x = norm(x, family.normAfter);
    g.output(g.node('Slice', [x, g.wholes([leading]), g.wholes([leading + grid]), g.wholes([1])]), output);

    const doc = 'Prepared pictures → feature maps, as the decoder takes them';
    const graph = g.message('encoder', [input], [output]);
    const bytes = modelMessage({ graph, irVersion: IR_VERSION, opset: OPSET, producer: { name: PRODUCER, version }, doc });
    const length = lengthOf(bytes);
    if (length > MAX_MESSAGE) throw new FileError(files.weights, `would be a model of ${length} bytes in one file; an ONNX file has at most ${MAX_MESSAGE}`);
    return { bytes, input, output };
  } finally {
    file.close();
  }
}
