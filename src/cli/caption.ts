/** `glimpse caption`: pictures → captions. While the GPU works on a batch, the pictures of the next are read and decoded. */
import { existsSync } from 'node:fs';
import { countLeftOut, picturesIn } from '../data/picture_folder.ts';
import { FileError, GlimpseError, UsageError } from '../errors.ts';
import { Captioner } from '../model/captioner/captioner.ts';
import type { GeneratedCaption } from '../model/captioner/decoding.ts';
import { openEncoderOf } from '../model/encoder/encoder.ts';
import { vocabularyOf } from '../model/training/checkpoint_format.ts';
import { scope, tensor } from '../tensor/tensor.ts';
import type { CaptionOptions } from './commands/caption.ts';
import { checkDecoding, decodingOf, openNeighbors, rankedCaptions } from './decoding.ts';
import { duration, progress, result, say, sayLeftOut } from './output.ts';
import { checkpointAt, withGpu } from './session.ts';
import { readShaders, useCheckedShaders } from './shaders.ts';

export async function caption(o: CaptionOptions, modelPath: string, given: string[]): Promise<number> {
  checkDecoding(o);
  if (o.nBest > o.beam) throw new UsageError(`--n-best ${o.nBest} asks for more captions than --beam ${o.beam} finds`);
  const shaders = readShaders(o.shader);
  const { pictures, leftOut } = await picturesIn(given);
  for (const picture of pictures) if (!existsSync(picture) && !o.skipBad) throw new FileError(picture, 'no such file');
  const checkpoint = checkpointAt(o, modelPath);
  const vocabulary = vocabularyOf(checkpoint);
  const asked = decodingOf(o, checkpoint.config);
  const { beam, maxLength } = asked;
  return withGpu(o, async (gpu) => {
    await useCheckedShaders(gpu, o, shaders);
    const encoder = await openEncoderOf(checkpoint, o.encoder);
    const { config } = checkpoint;
    const model = Captioner.fromWeights(config.sizes, config.options, checkpoint.weights);
    const { decoding } = model;
    const neighbors = openNeighbors(o, checkpoint);
    const bar = progress(o, 'caption', pictures.length, 'pictures');
    const loadBatch = (first: number) =>
      Promise.all(pictures.slice(first, first + o.batch).map(async (image) => ({ image, pixels: await encoder.attempt(image) })));
    const started = performance.now();
    const captions: { image: string; caption: string; tokens: string[]; logProb: number; others: string[] }[] = [];
    let next = loadBatch(0);
    for (let first = 0; first < pictures.length; first += o.batch) {
      const loaded = await next;
      next = loadBatch(first + o.batch);
      const batch: { image: string; pixels: Float32Array }[] = [];
      for (const { image, pixels } of loaded) {
        if (!(pixels instanceof FileError)) batch.push({ image, pixels });
        else if (o.skipBad) leftOut.push({ path: image, why: pixels.message.slice(image.length + 2) });
        else throw new GlimpseError(`${pixels.message}\n  Replace the picture, or leave such pictures out with --skip-bad.`);
      }
      if (batch.length === 0) continue;
      using _batch = scope();
      const { values, regions, width } = await encoder.features(
        batch.map(({ pixels }) => pixels),
        batch.map(({ image }) => image),
      );
      const features = tensor(values, [batch.length, regions, width]);
      const { temperature, topK, topP } = o;
      const found: GeneratedCaption[][] = o.sample
        ? (
            await decoding.sample(features, maxLength, {
              temperature,
              topK,
              topP,
              seed: o.seed + first,
              ...{ suppress: beam.suppress, minLength: o.minLength, noRepeat: o.noRepeat },
            })
          ).map((one) => [one])
        : await rankedCaptions(decoding, features, asked, neighbors);
      found.forEach(([{ tokens, logProb }, ...rest], i) => {
        const others = rest.slice(0, o.nBest - 1).map((each) => vocabulary.decode(each.tokens));
        captions.push({ image: batch[i].image, caption: vocabulary.decode(tokens), tokens: tokens.map((id) => vocabulary.word(id)), logProb, others });
      });
      bar.update(Math.min(pictures.length, first + o.batch));
    }
    bar.stop();
    const seconds = (performance.now() - started) / 1000;
    say(
      o,
      `${captions.length} pictures in ${duration(seconds)}: ${(captions.length / seconds).toFixed(2)} pictures/s, reading, encoding and decoding in batches of ${o.batch}`,
    );
    sayLeftOut(o, countLeftOut(leftOut));
    model.dispose();
    neighbors?.dispose();
    encoder.dispose();
    result(o, [...captions, ...leftOut.map(({ path, why }) => ({ image: path, leftOut: why }))], () =>
      captions.flatMap(({ image, caption: text, logProb, others }) => [`${image}: ${text}  (${logProb.toFixed(2)})`, ...others.map((other) => `    ${other}`)]),
    );
    return 0;
  });
}
