/** What an encoder runs: a network that makes a grid of regions of a picture, whatever file it came from. */
import type { Layout } from '../../data/feature_layout.ts';
import { GlimpseError } from '../../errors.ts';
import type { Parameters } from '../../nn/parameters.ts';
import type { Tensor } from '../../tensor/tensor.ts';

/** Where in a network the features are, and what of them is left out. Stores and checkpoints keep it. */
export interface FeaturePlace {
  /** Name of the value in the network. */
  featureMap: string;
  /** Absent: the last feature map of a convolutional network, which the graph tells. */
  layout?: Layout | undefined;
  /** Tokens before those of the patches, such as the class token. They are no region, and left out. */
  dropped?: number | undefined;
}

/** A network up to its features. */
export interface Backbone {
  readonly place: FeaturePlace;
  /** The parameters that are trained. */
  readonly parameters: Parameters;
  /** Side of the pictures that it takes, in pixels; null if it takes any. */
  readonly side: number | null;
  /** What a user should know of what was read, such as parts of the file that are not used. */
  readonly notes: readonly string[];
  /** Prepared pictures [N, 3, size, size] → [N, P, F], regions in row order. */
  encode(pixels: Tensor): Tensor;
  dispose(): void;
}

/** Tokens that models put before those of the patches: none, a class token, that and a distillation token, that and four registers. */
const LEADING = [0, 1, 2, 5];

/** How many of T tokens stand before a square grid of patches. Throws a GlimpseError that names the value if none can. */
export function leadingTokens(name: string, tokens: number): number {
  const found = LEADING.find((count) => tokens > count && Number.isInteger(Math.sqrt(tokens - count)));
  if (found !== undefined) return found;
  throw new GlimpseError(`${name} has ${tokens} tokens: neither these nor those without ${LEADING.slice(1).join(', ')} leading ones are a square grid`);
}
