/** The options of decoding, which `caption`, `eval` and `gallery` share. */
import { type Command, Option } from 'commander';
import { UsageError } from '../errors.ts';
import { LENGTH_PENALTIES, type LengthPenalty, WU_ALPHA } from '../kernels/beam.ts';
import type { BeamOptions } from '../model/captioner/decoding.ts';
import type { TrainingConfig } from '../model/training/checkpoint.ts';
import { positiveNumber, wholeNumber } from './output.ts';

export interface DecodingOptions {
  beam: number;
  penalty: LengthPenalty;
  groups: number;
  diversity: number;
  minLength: number;
  maxLength?: number;
  noRepeat: number;
}

export function withDecodingOptions(command: Command, beam: number): Command {
  return command
    .option('--beam <width>', 'hypotheses kept, at most 10; 1 is greedy', wholeNumber('--beam', 1), beam)
    .addOption(new Option('--penalty <name>', 'how scores of different lengths compare').choices([...LENGTH_PENALTIES]).default('average'))
    .option('--groups <count>', 'groups of a diverse beam search, which divide the beam', wholeNumber('--groups', 1), 1)
    .option('--diversity <number>', 'what a word costs for each earlier group that took it', positiveNumber('--diversity'), 0.5)
    .option('--min-length <words>', 'the caption does not end before, its end included', wholeNumber('--min-length', 0), 0)
    .option('--max-length <words>', 'longest caption', wholeNumber('--max-length', 1))
    .option('--no-repeat <words>', 'no run of so many words comes twice; 0 allows all', wholeNumber('--no-repeat', 0), 0);
}

/** What the decoder is asked for, with the longest caption. The basic preset may say every word, special ones too. */
export function decodingOf(o: DecodingOptions, { preset, maxLength }: TrainingConfig): { beam: BeamOptions; maxLength: number } {
  if (o.beam % o.groups !== 0) throw new UsageError(`--groups ${o.groups} does not divide --beam ${o.beam}`);
  if (o.beam > 10) throw new UsageError(`--beam is at most 10, got ${o.beam}`);
  const longest = o.maxLength ?? maxLength - 1;
  if (o.minLength > longest) throw new UsageError(`captions of at least ${o.minLength} words (--min-length) and at most ${longest} (--max-length) cannot be`);
  const { beam: width, penalty, groups, diversity, minLength, noRepeat } = o;
  return { beam: { width, penalty, alpha: WU_ALPHA, groups, diversity, minLength, noRepeat, suppress: preset === 'recommended' }, maxLength: longest };
}

export function describeDecoding({ beam, penalty, groups, diversity }: DecodingOptions): string {
  if (beam === 1) return 'greedy';
  return `beam ${beam} (${penalty}${groups > 1 ? `, ${groups} groups, diversity ${diversity}` : ''})`;
}
