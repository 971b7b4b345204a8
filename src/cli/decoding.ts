/** From the options of `caption`, `eval` and `gallery` to what the decoder is asked for. */
import { UsageError } from '../errors.ts';
import { WU_ALPHA } from '../kernels/beam.ts';
import type { BeamOptions } from '../model/captioner/decoding.ts';
import type { TrainingConfig } from '../model/training/checkpoint.ts';
import type { OptionsOf } from '../options.ts';
import type { decodingOptions } from './commands/decoding_options.ts';

export type DecodingOptions = OptionsOf<ReturnType<typeof decodingOptions>>;

/** What no option says alone. */
export function checkDecoding({ beam, groups }: DecodingOptions): void {
  if (beam % groups !== 0) throw new UsageError(`--groups ${groups} does not divide --beam ${beam}`);
}

/** What the decoder is asked for, with the longest caption. The basic preset may say every word, special ones too. */
export function decodingOf(o: DecodingOptions, { preset, maxLength }: TrainingConfig): { beam: BeamOptions; maxLength: number } {
  const longest = o.maxLength ?? maxLength - 1;
  if (o.minLength > longest) throw new UsageError(`--min-length ${o.minLength} is more than the longest caption may have: ${longest} words (--max-length)`);
  const { beam: width, penalty, groups, diversity, consensus, minLength, noRepeat } = o;
  return {
    beam: { width, penalty, alpha: WU_ALPHA, groups, diversity, consensus, minLength, noRepeat, suppress: preset === 'recommended' },
    maxLength: longest,
  };
}

export function describeDecoding({ beam, penalty, groups, diversity, consensus }: DecodingOptions): string {
  if (beam === 1) return 'greedy';
  return `beam ${beam} (${penalty}${groups > 1 ? `, ${groups} groups, diversity ${diversity}` : ''}${consensus ? ', consensus' : ''})`;
}
