/** `glimpse score` and `glimpse eval`: captions against references. */
import { writeFileAtomic } from '../data/atomic_file.ts';
import { pictureIds, readDataset } from '../data/captions.ts';
import { joinResults, reportedId, resultsText } from '../data/coco_results.ts';
import { FeatureStore } from '../data/feature_store.ts';
import { counted, examplesOf } from '../data/picture_folder.ts';
import { Vocabulary } from '../data/words.ts';
import { GlimpseError } from '../errors.ts';
import { captionTokens } from '../metrics/ptb.ts';
import { type Scored, type ScoreReport, scoreCaptions } from '../metrics/score.ts';
import { Captioner } from '../model/captioner/captioner.ts';
import { loadCheckpoint, resolveCheckpoint } from '../model/training/checkpoint.ts';
import { scope, tensor } from '../tensor/tensor.ts';
import type { EvalOptions } from './commands/eval.ts';
import type { ScoreOptions } from './commands/score.ts';
import { checkDecoding, decodingOf, describeDecoding } from './decoding.ts';
import { duration, progress, result, say } from './output.ts';
import { withGpu } from './session.ts';

const SHOWN = ['Bleu_1', 'Bleu_2', 'Bleu_3', 'Bleu_4', 'METEOR', 'ROUGE_L', 'CIDEr'] as const;

function report(r: ScoreReport): string {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const { captions } = r;
  return [
    `${r.images} pictures; tokens: ${r.tokenizer}; METEOR 1.5 by ${r.meteorModules.join(', ')}${r.meteorModules.includes('synonym') ? '' : ' (no synonyms: install WordNet with npm run wordnet)'}`,
    ...SHOWN.map((name) => {
      const range = r.intervals[name];
      return `${name.padEnd(8)} ${r[name].toFixed(4)}${range ? `   95 % of resamples: ${range[0].toFixed(4)} … ${range[1].toFixed(4)}` : ''}`;
    }),
    `${captions.distinctCaptions} different captions, ${captions.distinctWords} different words, ${captions.meanLength.toFixed(1)} words each; ${percent(captions.endInFunctionWord)} end in a function word, ${percent(captions.unknownRate)} unknown words${captions.seenInTraining === null ? '' : `, ${percent(captions.seenInTraining)} seen in training`}`,
  ].join('\n');
}

export async function score(o: ScoreOptions): Promise<number> {
  const { joined, pictures, withoutCandidate } = joinResults(o.references, o.candidates, o.encoding);
  if (joined.length === 0) throw new GlimpseError(`${o.candidates} has no captions`);
  if (withoutCandidate.count > 0)
    say(o, `${withoutCandidate.count} of ${pictures} pictures have no caption and are not counted${examplesOf(withoutCandidate)}`);
  const scores = scoreCaptions(joined, { bootstrap: o.bootstrap });
  result(o, { ...scores, withoutCandidate }, () => report(scores));
  return 0;
}

/** Decodes every picture of a split freely (never with the references' words at hand) and scores the captions. */
export async function evaluate(o: EvalOptions, modelPath: string): Promise<number> {
  checkDecoding(o);
  const checkpoint = loadCheckpoint(resolveCheckpoint(modelPath));
  const { config } = checkpoint;
  const { beam, maxLength } = decodingOf(o, config);
  const dataset = readDataset(o.data);
  const store = await FeatureStore.open(o.features);
  store.requireEncoder(checkpoint.encoder);
  const vocabulary = new Vocabulary(checkpoint.vocabulary);
  const ofSplit = dataset.images.filter(({ split }) => split === o.split);
  const images = ofSplit.filter(({ file }) => store.has(file)).slice(0, o.limit);
  if (images.length === 0) throw new GlimpseError(`no picture of the split ${o.split} has features in ${o.features}`);
  const withoutFeatures = counted(ofSplit.filter(({ file }) => !store.has(file)).map(({ file }) => file));
  if (withoutFeatures.count > 0)
    say(o, `${withoutFeatures.count} of ${ofSplit.length} pictures have no features and are left out${examplesOf(withoutFeatures)}`);
  const ids = pictureIds(images);
  return withGpu(o, async () => {
    const model = Captioner.fromWeights(config.sizes, config.options, checkpoint.weights);
    const bar = progress(o, 'eval', images.length, 'pictures');
    const started = performance.now();
    const list: Scored[] = [];
    for (let first = 0; first < images.length; first += o.batch) {
      using _batch = scope();
      const part = images.slice(first, first + o.batch);
      const features = tensor(await store.read(part.map(({ file }) => file)), [part.length, store.index.regions, store.index.width]);
      const found = await model.decoding.ranked(features, maxLength, beam);
      found.forEach(([{ tokens }], i) => {
        const caption = vocabulary.decode(tokens.filter((id) => id > 0));
        list.push({ image_id: reportedId(ids[first + i]), caption, references: part[i].captions });
      });
      bar.update(Math.min(images.length, first + o.batch));
    }
    bar.stop();
    const seconds = (performance.now() - started) / 1000;
    model.dispose();
    await store.close();
    if (o.out) writeFileAtomic(o.out, [resultsText(list.map(({ caption }, i) => ({ id: ids[i], caption })))]);
    const training = new Set(
      dataset.images.filter(({ split }) => split === 'train').flatMap(({ captions }) => captions.map((text) => captionTokens(text).join(' '))),
    );
    const scores = scoreCaptions(list, { bootstrap: o.bootstrap, training });
    const decoding = { beam: o.beam, penalty: o.beam === 1 ? null : o.penalty, seconds, picturesPerSecond: images.length / seconds };
    result(
      o,
      { ...scores, split: o.split, withoutFeatures, decoding },
      () => `${report(scores)}\n${o.split} split, ${describeDecoding(o)}, ${duration(seconds)}`,
    );
    return 0;
  });
}
