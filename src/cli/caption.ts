/** `glimpse caption`: pictures → captions. */
import { existsSync } from 'node:fs';
import { Vocabulary } from '../data/captions.ts';
import { FileError, UsageError } from '../errors.ts';
import type { LengthPenalty } from '../kernels/beam.ts';
import { Captioner, WU_ALPHA } from '../model/captioner.ts';
import { loadCheckpoint, resolveCheckpoint } from '../model/checkpoint.ts';
import { ImageEncoder } from '../model/encoder.ts';
import { scope, tensor } from '../tensor/tensor.ts';
import { type CommonOptions, progress, result, say } from './output.ts';
import { withGpu } from './session.ts';

interface CaptionCommand extends CommonOptions {
  encoder?: string;
  maxLength?: number;
  beam: number;
  penalty: LengthPenalty;
  sample?: boolean;
  temperature: number;
  topK: number;
  topP: number;
  seed: number;
  skipBad?: boolean;
}

const BATCH = 8;

export async function caption(o: CaptionCommand, modelPath: string, pictures: string[]): Promise<number> {
  if (o.sample && o.beam > 1) throw new UsageError('--sample and --beam exclude each other');
  if (o.temperature === 0 || o.topP === 0) throw new UsageError('--temperature and --top-p must be above 0');
  for (const picture of pictures) if (!existsSync(picture) && !o.skipBad) throw new FileError(picture, 'no such file');
  const checkpoint = loadCheckpoint(resolveCheckpoint(modelPath));
  const vocabulary = new Vocabulary(checkpoint.vocabulary);
  return withGpu(o, async () => {
    const encoder = await ImageEncoder.openFor(checkpoint.encoder, o.encoder);
    const { config } = checkpoint;
    const model = Captioner.fromWeights(config.sizes, config.options, checkpoint.weights);
    const bar = progress(o, 'caption', pictures.length, 'pictures');
    const captions: { image: string; caption: string; tokens: string[]; logProb: number }[] = [];
    for (let first = 0; first < pictures.length; first += BATCH) {
      const batch: { image: string; pixels: Float32Array }[] = [];
      for (const image of pictures.slice(first, first + BATCH)) {
        try {
          batch.push({ image, pixels: await encoder.load(image) });
        } catch (error) {
          if (!(error instanceof FileError) || !o.skipBad) throw error;
          say(o, `left out: ${error.message}`);
        }
      }
      if (batch.length === 0) continue;
      using _batch = scope();
      const { values, places, width } = await encoder.features(batch.map(({ pixels }) => pixels));
      const features = tensor(values, [batch.length, places, width]);
      const maxLength = o.maxLength ?? config.maxLength - 1;
      const suppress = config.preset === 'recommended';
      const found = o.sample
        ? await model.sample(features, maxLength, { temperature: o.temperature, topK: o.topK, topP: o.topP, seed: o.seed + first, suppress })
        : await model.best(features, maxLength, { width: o.beam, penalty: o.penalty, alpha: WU_ALPHA, minLength: 0, suppress });
      found.forEach(({ tokens, logProb }, i) => {
        const words = tokens.map((id) => vocabulary.words[id]);
        captions.push({ image: batch[i].image, caption: words.join(' '), tokens: words, logProb });
      });
      bar.update(Math.min(pictures.length, first + BATCH));
    }
    bar.stop();
    model.dispose();
    encoder.dispose();
    result(o, captions, () => captions.map(({ image, caption: text, logProb }) => `${image}: ${text}  (${logProb.toFixed(2)})`).join('\n'));
    return 0;
  });
}
