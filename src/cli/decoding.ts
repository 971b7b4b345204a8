/** From the options of `caption`, `eval` and `gallery` to what the decoder is asked for. */
import { encoderDifferences } from '../data/feature_index.ts';
import { openFile } from '../data/file_source.ts';
import { parseNeighbors } from '../data/neighbor_file.ts';
import { GlimpseError, UsageError } from '../errors.ts';
import { WU_ALPHA } from '../kernels/beam.ts';
import type { Decoding, GeneratedCaption } from '../model/captioner/decoding.ts';
import { type NeighborOptions, Neighbors } from '../model/captioner/neighbors.ts';
import type { Checkpoint, TrainingConfig } from '../model/training/checkpoint.ts';
import { vocabularyOf } from '../model/training/checkpoint_format.ts';
import type { OptionsOf } from '../options.ts';
import type { Tensor } from '../tensor/tensor.ts';
import type { decodingOptions } from './commands/decoding_options.ts';

export type DecodingOptions = OptionsOf<ReturnType<typeof decodingOptions>>;

/** What no option says alone. */
export function checkDecoding({ beam, groups }: DecodingOptions): void {
  if (beam % groups !== 0) throw new UsageError(`--groups ${groups} does not divide --beam ${beam}`);
}

/** What the decoder is asked for. The basic preset may say every word, special ones too. */
export function decodingOf(o: DecodingOptions, { preset, maxLength }: TrainingConfig): NeighborOptions {
  const longest = o.maxLength ?? maxLength - 1;
  if (o.minLength > longest) throw new UsageError(`--min-length ${o.minLength} is more than the longest caption may have: ${longest} words (--max-length)`);
  const { beam: width, penalty, groups, diversity, consensus, minLength, noRepeat } = o;
  return {
    beam: { width, penalty, alpha: WU_ALPHA, groups, diversity, consensus, minLength, noRepeat, suppress: preset === 'recommended' },
    maxLength: longest,
    samples: o.samples,
  };
}

export function describeDecoding({ beam, penalty, groups, diversity, consensus, neighbors, samples }: DecodingOptions): string {
  if (beam === 1) return 'greedy';
  const decided = neighbors ? `, neighbors, ${samples} samples` : consensus ? ', consensus' : '';
  return `beam ${beam} (${penalty}${groups > 1 ? `, ${groups} groups, diversity ${diversity}` : ''}${decided})`;
}

/** The neighbors that a file has, on the device; null if none was named. Throws if another encoder than the model's made the file. */
export function openNeighbors({ neighbors: path }: DecodingOptions, checkpoint: Checkpoint): Neighbors | null {
  if (path === undefined) return null;
  const source = openFile(path);
  try {
    const file = parseNeighbors(source);
    const differing = encoderDifferences(file.encoder, checkpoint.encoder);
    if (differing.length > 0)
      throw new GlimpseError(`${path} is of another encoder than the model was trained with (${differing.join(', ')} differ); make it anew`);
    return new Neighbors(file, checkpoint.config.sizes.features, vocabularyOf(checkpoint));
  } finally {
    source.close();
  }
}

/** Captions of features [B, P, F], best first. `neighbors` decide which is best, if there are any. */
export function rankedCaptions(decoding: Decoding, features: Tensor, asked: NeighborOptions, neighbors: Neighbors | null): Promise<GeneratedCaption[][]> {
  return neighbors ? neighbors.captions(decoding, features, asked) : decoding.ranked(features, asked.maxLength, asked.beam);
}
