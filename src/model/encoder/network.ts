/** The image encoder: a network up to its regions (backbone.ts), and how its pixels are prepared. It opens no file. */
import { noGrad } from '../../autograd/tape.ts';
import type { ByteSource } from '../../data/bytes.ts';
import type { EncoderIdentity } from '../../data/encoder_identity.ts';
import type { Layout } from '../../data/feature_layout.ts';
import { nonFiniteFault } from '../../data/finite.ts';
import { PREPROCESSINGS, type Preprocessing, preprocessingOf, saysResize } from '../../data/preprocessing.ts';
import { GlimpseError, UsageError } from '../../errors.ts';
import type { NamedArray, Parameters } from '../../nn/parameters.ts';
import { scope, type Tensor, tensor } from '../../tensor/tensor.ts';
import type { Backbone } from './backbone.ts';
import { GraphBackbone } from './graph.ts';

/** Published files whose preprocessing is known, by the SHA-256 of the ONNX file. */
const KNOWN: Record<string, string> = {
  f3f18da07b67cfa62d64d866322370937fb9e28f8460b9763ec45159f16e7268: 'imagenet',
};

/** ResNets reduce the sides of pictures by this factor. */
const REDUCTION = 32;

/** How an encoder prepares pictures, where its features are, and what of it is trained. */
export interface EncoderOptions {
  /** A name, or a description in full (`preprocessingOf`). May be left out only for files that are known or say it; it is never guessed. */
  preprocessing?: string;
  /** Number of regions along a side. The default follows from the picture size of the preprocessing. */
  grid?: number;
  /** Name of the value whose regions are the features. The default is the last feature map, or the last hidden state. */
  feature?: string;
  /** Order of the axes of that value, where its shape leaves it open. */
  layout?: Layout;
  /** Leading tokens that are no regions. The default follows from their number. With `layout` it is not looked at again. */
  dropped?: number;
  /**
   * Layers that are trained, by the beginnings of their names. Of a graph these are convolutions. Of a vision transformer they are all
   * weights of a layer, and `last:2` are its last two layers. `weights` replace those of the file.
   */
  tuned?: { layers: readonly string[]; weights?: ReadonlyMap<string, NamedArray> };
}

/** What makes the encoder of an identity again. `weights` are those that replace the file's, by layers. */
export function optionsOf({ preprocessing, featureMap, layout, dropped }: EncoderIdentity, tuned?: EncoderOptions['tuned']): EncoderOptions {
  return {
    preprocessing,
    // The last feature map of a graph is found again.
    ...(layout ? { feature: featureMap, layout, dropped: dropped ?? 0 } : {}),
    ...(tuned ? { tuned } : {}),
  };
}

/** The name of the preprocessing, settled. Throws a UsageError if there is none, or if `grid` does not fit it. */
export function settledPreprocessing(path: string, { preprocessing, grid }: EncoderOptions, known?: string): string {
  const base = preprocessing ?? known;
  if (!base) throw new UsageError(`${path} is no known file: say how its pixels are prepared with --preprocess (${Object.keys(PREPROCESSINGS).join(', ')})`);
  if (!grid) return base;
  if (saysResize(preprocessingOf(base)))
    throw new UsageError(`${path}: --grid sets the size of pictures to ${REDUCTION} times the grid, but how they are prepared is said already: ${base}`);
  return `${base.split('@')[0]}@${REDUCTION * grid}`;
}

/** What `make` gives; if it throws, `undo` is done first. */
function orAfter<T>(undo: () => void, make: () => T): T {
  try {
    return make();
  } catch (error) {
    undo();
    throw error;
  }
}

/** A network that makes regions of pictures. */
export class EncoderNetwork {
  /** Which network it is, for stores and checkpoints. */
  readonly identity: EncoderIdentity;
  /** How pictures become its input. */
  readonly preprocessing: Preprocessing;
  private readonly backbone: Backbone;

  /**
   * From the source of an ONNX file, which it closes, or from a network. `sha256` is that of all that the network was read from; `tuned`
   * the hash of the weights that replace those of the file. Throws a UsageError if its preprocessing is neither known nor given.
   */
  constructor(from: ByteSource | { name: string; backbone: Backbone }, sha256: string, o: EncoderOptions, tuned: string | null) {
    const { name: path } = from;
    const close = () => ('backbone' in from ? from.backbone.dispose() : from.close());
    const name = orAfter(close, () => settledPreprocessing(path, o, KNOWN[sha256]));
    this.preprocessing = orAfter(close, () => preprocessingOf(name));
    const { size } = this.preprocessing;
    const { feature, layout, dropped, tuned: trained } = o;
    this.backbone =
      'backbone' in from
        ? from.backbone
        : GraphBackbone.open(from, size, { ...(feature === undefined ? {} : { featureMap: feature }), layout, dropped, tuned: trained });
    const { side, place } = this.backbone;
    if (side !== null && side !== size) {
      this.backbone.dispose();
      throw new UsageError(`${path} takes pictures of ${side} × ${side} pixels, as its position embeddings do; by "${name}" they are ${size} × ${size}`);
    }
    const where = { ...(place.layout ? { layout: place.layout } : {}), ...(place.dropped === undefined ? {} : { dropped: place.dropped }) };
    this.identity = { path, sha256, featureMap: place.featureMap, ...where, preprocessing: name, tuned };
  }

  /** The parameters that are trained. */
  get parameters(): Parameters {
    return this.backbone.parameters;
  }

  /** What a user should know of what was read. */
  get notes(): readonly string[] {
    return this.backbone.notes;
  }

  /** Side of the square that pictures become, in pixels. */
  get size(): number {
    return this.preprocessing.size;
  }

  /** A picture of zeros, for finding the size of the feature map. */
  blank(): Float32Array {
    return new Float32Array(3 * this.size ** 2);
  }

  /** Prepared pictures [N, 3, size, size] → their regions [N, P, F] in row order. Gradients reach the trained parameters. */
  encode(pixels: Tensor): Tensor {
    return this.backbone.encode(pixels);
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
    this.backbone.dispose();
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
