/**
 * Which hypothesis to say, by what people said of similar pictures (Devlin and others 2015, "Exploring nearest neighbor approaches for
 * image captioning"). A model is least sure of what it saw. But a picture has neighbors among the training pictures, by the same features,
 * and those have captions by people. Of the hypotheses of a beam and of samples, the one that is most like those captions is said.
 *
 *   score(h) = Σ_n w_n CIDEr-D(h, captions of n) / 10 + 0.05 · mean similarity to all hypotheses
 *   w = softmax(cos(x, x_n) / 0.07) over the 60 nearest pictures n
 *
 * A picture is not its own neighbor, nor is a copy of it: else a training picture would be told its own captions.
 *
 * x is the mean of a picture's features over its regions: its signed square root, of length 1, less the mean of all training pictures.
 * CIDEr-D's document frequencies are those of the training captions.
 */
import * as ops from '../../autograd/ops/index.ts';
import { noGrad } from '../../autograd/tape.ts';
import type { NeighborFile } from '../../data/neighbor_file.ts';
import type { Vocabulary } from '../../data/words.ts';
import { GlimpseError } from '../../errors.ts';
import { agreement, CiderD } from '../../metrics/cider.ts';
import { captionTokens } from '../../metrics/ptb.ts';
import { featureTensor } from '../../nn/stored_features.ts';
import { readTensors, Scope, scope, type Tensor, tensor } from '../../tensor/tensor.ts';
import type { BeamOptions, Decoding, RankedCaption } from './decoding.ts';

/** Neighbors of a picture, and how fast their weight falls with the cosine. Chosen on validation pictures of Flickr8k. */
const NEIGHBORS = 60;
const TEMPERATURE = 0.07;
/** Pictures whose vectors are nearer than this are the same one. Halves of a vector have a cosine of 0.9999999 with it. */
const SAME = 0.999;
/** Copies of a picture that are looked past. */
const COPIES = 8;
/** Weight of the likeness of the hypotheses to one another. */
const AGREEMENT = 0.05;
/** Added to a length, so that a vector of zeros stays one. */
const TINY = 1e-12;
/** Temperature of the samples. At 1 most of them are poor hypotheses. */
const SAMPLED_AT = 0.5;
/** Samples of each picture that are drawn at a time, since each has a copy of the picture's features. */
const DRAWN_TOGETHER = 10;

export interface NeighborOptions {
  maxLength: number;
  beam: BeamOptions;
  /** Captions sampled besides the beam, as further hypotheses. */
  samples: number;
}

/** A training picture that is near, and its share. */
export interface Neighbor {
  picture: number;
  weight: number;
}

const unit = (x: Tensor): Tensor => ops.div(x, ops.addScalar(ops.norm(x, 1, true), TINY));

/** Features [B, P, F] → one vector of length 1 for each picture, [B, F], before the mean is taken off. */
export function pictureVectors(features: Tensor): Tensor {
  const mean = ops.mean(features, 1);
  return unit(ops.mul(ops.sign(mean), ops.sqrt(ops.abs(mean))));
}

export class Neighbors {
  /** Vectors less their mean, of length 1 again, in parts that fit a binding. */
  private readonly parts: { first: number; vectors: Tensor }[] = [];
  private readonly mean: Tensor;
  private readonly words: string[][][];
  private readonly cider: CiderD;

  /**
   * For a model of these words. `bytes` of vectors at most lie in a buffer. Throws a GlimpseError if the vectors are of other features
   * than the model reads.
   */
  constructor(
    { width, captions, vectors, mean }: NeighborFile,
    features: number,
    private readonly vocabulary: Vocabulary,
    bytes = Number.POSITIVE_INFINITY,
  ) {
    if (width !== features) throw new GlimpseError(`the vectors of the neighbors have ${width} numbers, the model reads features of ${features}`);
    this.words = captions.map((each) => each.map(captionTokens));
    this.cider = new CiderD(this.words);
    this.mean = Scope.release(tensor(mean, [1, width], 'f32', 'mean of the pictures'));
    const most = Math.max(1, Math.floor(Math.min(bytes, this.mean.gpu.device.limits.maxStorageBufferBindingSize) / (4 * width)));
    for (let first = 0; first < captions.length; first += most) {
      const count = Math.min(most, captions.length - first);
      const halves = vectors.subarray(first * width, (first + count) * width);
      this.parts.push({ first, vectors: this.centered(() => featureTensor(halves, [count, width])) });
    }
  }

  private centered(of: () => Tensor): Tensor {
    using _work = scope();
    return Scope.release(noGrad(() => unit(ops.sub(of(), this.mean))));
  }

  /** The neighbors of each picture, nearest first. features [B, P, F]. */
  async nearest(features: Tensor): Promise<Neighbor[][]> {
    using _work = scope();
    const [batch] = features.shape;
    const query = noGrad(() => unit(ops.sub(pictureVectors(features), this.mean)));
    const found: { picture: number; cosine: number }[][] = Array.from({ length: batch }, () => []);
    for (const { first, vectors } of this.parts) {
      const [count] = vectors.shape;
      const k = Math.min(NEIGHBORS + COPIES, count);
      const best = noGrad(() => ops.topK(ops.matmul(query, vectors, { transB: true }), k));
      const [cosines, places] = await readTensors([best.values, best.indices]);
      for (let b = 0; b < batch; b++) for (let i = 0; i < k; i++) found[b].push({ picture: first + places[b * k + i], cosine: cosines[b * k + i] });
    }
    return found.map((all) => {
      const others = all.filter(({ cosine }) => cosine < SAME);
      const near = others.sort((x, y) => y.cosine - x.cosine).slice(0, NEIGHBORS);
      const weights = near.map(({ cosine }) => Math.exp((cosine - near[0].cosine) / TEMPERATURE));
      const sum = weights.reduce((total, weight) => total + weight, 0);
      return near.map(({ picture }, i) => ({ picture, weight: weights[i] / sum }));
    });
  }

  /**
   * Hypotheses of each picture, that first which is most like the captions of its neighbors: those of the beam, and so many samples.
   * features [B, P, F]. Equal hypotheses stand once.
   */
  async captions(decoding: Decoding, features: Tensor, { maxLength, beam, samples }: NeighborOptions, wantAlpha = false): Promise<RankedCaption[][]> {
    const near = await this.nearest(features);
    const { suppress, minLength = 0, noRepeat = 0 } = beam;
    const searched = await decoding.beam(features, maxLength, { ...beam, consensus: false }, wantAlpha);
    const drawn: RankedCaption[][] = searched.map(() => []);
    for (let first = 0; first < samples; first += DRAWN_TOGETHER) {
      const perPicture = Math.min(DRAWN_TOGETHER, samples - first);
      const o = { perPicture, temperature: SAMPLED_AT, topK: 0, topP: 1, seed: first, suppress, minLength, noRepeat };
      for (const [i, each] of (await decoding.sample(features, maxLength, o, wantAlpha)).entries())
        drawn[Math.floor(i / perPicture)].push({ ...each, score: each.logProb / (each.tokens.length + 1) });
    }
    return searched.map((found, i) => {
      const byText = new Map([...drawn[i], ...found.toReversed()].map((each) => [this.vocabulary.decode(each.tokens), each])); // the first of equal ones stays
      const support = this.support([...byText.keys()], near[i]);
      return [...byText.values()].map((each, h) => ({ ...each, agreement: support[h] })).sort((a, b) => b.agreement - a.agreement);
    });
  }

  /** What each hypothesis of a picture is worth, given its neighbors. */
  support(hypotheses: readonly string[], near: readonly Neighbor[]): number[] {
    const words = hypotheses.map(captionTokens);
    const support = agreement(words).map((value) => AGREEMENT * value);
    for (const { picture, weight } of near) {
      const scores = this.cider.scores(words, this.words[picture]);
      for (const [i, score] of scores.entries()) support[i] += (weight * score) / 10;
    }
    return support;
  }

  dispose(): void {
    for (const { vectors } of this.parts) vectors.dispose();
    this.mean.dispose();
  }
}
