/** The image encoder as a network: an ONNX file's graph up to its last feature map, and how its pixels are prepared. It opens no file. */
import * as ops from '../../autograd/ops/index.ts';
import { noGrad } from '../../autograd/tape.ts';
import type { ByteSource } from '../../data/bytes.ts';
import type { EncoderIdentity } from '../../data/encoder_identity.ts';
import { nonFiniteFault } from '../../data/finite.ts';
import { PREPROCESSINGS, type Preprocessing, preprocessingOf } from '../../data/preprocessing.ts';
import { GlimpseError, UsageError } from '../../errors.ts';
import type { NamedArray, Parameters } from '../../nn/parameters.ts';
import { scope, type Tensor, tensor } from '../../tensor/tensor.ts';
import { OnnxModel } from '../onnx/run.ts';

/** Published files whose preprocessing is known, by the SHA-256 of the ONNX file. */
const KNOWN: Record<string, string> = {
  f3f18da07b67cfa62d64d866322370937fb9e28f8460b9763ec45159f16e7268: 'imagenet',
};

/** ResNets reduce the sides of pictures by this factor. */
const REDUCTION = 32;

/** How an encoder prepares pictures, and what of it is trained. */
export interface EncoderOptions {
  /** May be left out only for known files; it is never guessed. */
  preprocessing?: string;
  /** Number of regions along a side. The default follows from the picture size of the preprocessing. */
  grid?: number;
  /** Layers whose convolutions are trained, by the beginnings of their initializers' names. `weights` replace those of the file. */
  tuned?: { layers: readonly string[]; weights?: ReadonlyMap<string, NamedArray> };
}

const isIn = (layers: readonly string[], name: string) => layers.some((layer) => name === layer || name.startsWith(`${layer}.`));

/** A convolutional network from an ONNX graph, up to its last feature map. */
export class EncoderNetwork {
  /** Which network it is, for stores and checkpoints. */
  readonly identity: EncoderIdentity;
  /** How pictures become its input. */
  readonly preprocessing: Preprocessing;
  private readonly model: OnnxModel;

  /**
   * `sha256` is that of the whole source; `tuned` the hash of the weights that replace those of the file. Closes the source. Throws a
   * UsageError if its preprocessing is neither known nor given.
   */
  constructor(source: ByteSource, sha256: string, o: EncoderOptions, tuned: string | null) {
    const { name: path } = source;
    const base = o.preprocessing ?? KNOWN[sha256];
    const name = base && o.grid ? `${base.split('@')[0]}@${REDUCTION * o.grid}` : base;
    if (!name) {
      source.close();
      throw new UsageError(`${path} is no known file: say how its pixels are prepared with --preprocess (${Object.keys(PREPROCESSINGS).join(', ')})`);
    }
    this.preprocessing = preprocessingOf(name);
    const layers = o.tuned?.layers ?? [];
    // Batch normalization keeps its parameters and statistics. Batches of a few pictures would only disturb it.
    const model = OnnxModel.load(source, {
      refuseNaN: true,
      ...(layers.length > 0 ? { trainable: (weight: string, shape: readonly number[]) => shape.length === 4 && isIn(layers, weight) } : {}),
    });
    const unknown = layers.find((layer) => ![...model.parameters.all.keys()].some((weight) => isIn([layer], weight)));
    if (unknown !== undefined) {
      const known = new Set([...model.graph.initializers.keys()].flatMap((weight) => (weight.includes('.') ? [weight.split('.')[0]] : [])));
      throw new UsageError(`${path} has no convolution in a layer called "${unknown}" (its weights begin with ${[...known].join(', ')})`);
    }
    if (o.tuned?.weights) model.parameters.write(o.tuned.weights);
    this.model = model;
    this.identity = { path, sha256, featureMap: model.featureMapName, preprocessing: name, tuned };
  }

  /** The parameters that are trained. */
  get parameters(): Parameters {
    return this.model.parameters;
  }

  /** Side of the square that pictures are scaled to, in pixels. */
  get size(): number {
    return this.preprocessing.size;
  }

  /** A picture of zeros, for finding the size of the feature map. */
  blank(): Float32Array {
    return new Float32Array(3 * this.size ** 2);
  }

  /** Prepared pictures [N, 3, size, size] → their feature maps [N, P, F], regions in row order. Gradients reach the trained parameters. */
  encode(pixels: Tensor): Tensor {
    const [map] = this.model.run({ [this.model.graph.inputs[0].name]: pixels }, [this.identity.featureMap], true);
    const [count, height, wide, width] = map.shape;
    return ops.reshape(map, [count, height * wide, width]);
  }

  /**
   * Loaded pictures → their feature maps, [P · F] each. `values` holds all of them; `records` are views of it, one per picture. With
   * `names` of the pictures, throws a GlimpseError that names the first whose features are NaN or infinite.
   */
  async features(
    pictures: readonly Float32Array[],
    names: readonly string[] = [],
  ): Promise<{ values: Float32Array; records: Float32Array[]; regions: number; width: number }> {
    using _encoding = scope();
    const map = noGrad(() => this.encode(tensor(packed(pictures), [pictures.length, 3, this.size, this.size])));
    const [, regions, width] = map.shape;
    const values = (await map.data()) as Float32Array;
    const per = regions * width;
    const records = pictures.map((_, i) => values.subarray(i * per, (i + 1) * per));
    for (const [i, name] of names.entries()) {
      const fault = nonFiniteFault(records[i]);
      if (fault) throw new GlimpseError(`${name}: its features are no numbers: ${fault}; the encoder ${this.identity.path} overflows or is damaged`);
    }
    return { values, records, regions, width };
  }

  dispose(): void {
    this.model.dispose();
  }
}

/** One array with all values of the arrays, in order. */
export function packed(arrays: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) {
    all.set(array, at);
    at += array.length;
  }
  return all;
}
