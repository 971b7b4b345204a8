/** `glimpse score` and `glimpse eval`: captions against references. */
import { type Counted, counted, examplesOf } from '../counted.ts';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { pictureIds, readDataset } from '../data/captions.ts';
import { joinResults, readReferences, reportedId, resultsText } from '../data/coco_results.ts';
import { sameWords } from '../data/words.ts';
import { GlimpseError } from '../errors.ts';
import { captionTokens } from '../metrics/ptb.ts';
import { type Collection, type Scored, type ScoreReport, scoreCaptions } from '../metrics/score.ts';
import { Captioner } from '../model/captioner/captioner.ts';
import { Ensemble } from '../model/captioner/ensemble.ts';
import { vocabularyOf } from '../model/training/checkpoint_format.ts';
import { featureTensor } from '../nn/stored_features.ts';
import { scope } from '../tensor/tensor.ts';
import type { EvalOptions } from './commands/eval.ts';
import type { ScoreOptions } from './commands/score.ts';
import { checkDecoding, decodingOf, describeDecoding, openNeighbors, rankedCaptions } from './decoding.ts';
import { openFeatures } from './feature_stores.ts';
import { duration, progress, result } from './output.ts';
import { checkpointAt, withGpu } from './session.ts';

const SHOWN = ['Bleu_1', 'Bleu_2', 'Bleu_3', 'Bleu_4', 'METEOR', 'ROUGE_L', 'CIDEr'] as const;

/** A line about pictures that a reader must know of, if there are any. */
const told = (found: Counted, all: number, what: string) => (found.count === 0 ? [] : [`${what}: ${found.count} of ${pictures(all)}${examplesOf(found)}`]);

const pictures = (count: number) => (count === 1 ? '1 picture' : `${count} pictures`);

function report(r: ScoreReport): string[] {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const { captions, documentFrequencies } = r;
  return [
    `${pictures(r.images)}; tokens: ${r.tokenizer}; METEOR 1.5 by ${r.meteorModules.join(', ')}${r.meteorModules.includes('synonym') ? '' : ' (no synonyms: install WordNet with npm run wordnet)'}`,
    `CIDEr-D by the document frequencies of ${documentFrequencies.collection ?? 'the references'}: ${pictures(documentFrequencies.images)}`,
    ...SHOWN.map((name) => {
      const range = r.intervals[name];
      return `${name.padEnd(8)} ${r[name].toFixed(4)}${range ? `   95 % of resamples: ${range[0].toFixed(4)} … ${range[1].toFixed(4)}` : ''}`;
    }),
    ...r.notes,
    ...(r.notes.length > 0 && documentFrequencies.collection === null ? ['--document-frequencies takes those of another file of references'] : []),
    `${captions.distinctCaptions} different captions, ${captions.distinctWords} different words, ${captions.meanLength.toFixed(1)} words each; ${percent(captions.endInFunctionWord)} end in a function word, ${percent(captions.unknownRate)} unknown words${captions.seenInTraining === null ? '' : `, ${percent(captions.seenInTraining)} seen in training`}`,
    ...told(r.emptyCandidates, r.images, 'caption without a word'),
    ...told(r.emptyReferences, r.images, 'a reference without a word'),
  ];
}

/** The captions of the file of --document-frequencies. */
const collectionOf = (path: string | undefined, encoding?: string): Collection | undefined =>
  path === undefined ? undefined : { name: path, captions: readReferences(path, encoding).byId };

export async function score(o: ScoreOptions): Promise<number> {
  const { joined, pictures: all, withoutCandidate } = joinResults(o.references, o.candidates, o.encoding);
  if (joined.length === 0) throw new GlimpseError(`${o.candidates} has no captions`);
  const scores = scoreCaptions(joined, { bootstrap: o.bootstrap, collection: collectionOf(o.documentFrequencies, o.encoding) });
  result(o, { ...scores, withoutCandidate }, () => [...report(scores), ...told(withoutCandidate, all, 'without a caption, so not counted')].join('\n'));
  return 0;
}

/** Decodes every picture of a split freely (never with the references' words at hand) and scores the captions. */
export async function evaluate(o: EvalOptions, modelPaths: string[]): Promise<number> {
  checkDecoding(o);
  const checkpoints = modelPaths.map((path) => checkpointAt(o, path));
  const [checkpoint] = checkpoints;
  for (const [i, other] of checkpoints.entries())
    if (!sameWords(other.vocabulary, checkpoint.vocabulary) || other.config.words !== checkpoint.config.words)
      throw new GlimpseError(`${modelPaths[0]} and ${modelPaths[i]} cannot decode together: they were trained with different words`);
  const asked = decodingOf(o, checkpoint.config);
  const dataset = readDataset(o.data);
  const store = await openFeatures(o, o.features);
  for (const { encoder } of checkpoints) store.requireEncoder(encoder);
  const vocabulary = vocabularyOf(checkpoint);
  const collection = collectionOf(o.documentFrequencies);
  const ofSplit = dataset.images.filter(({ split }) => split === o.split);
  const images = ofSplit.filter(({ file }) => store.has(file)).slice(0, o.limit);
  if (images.length === 0) throw new GlimpseError(`no picture of the split ${o.split} has features in ${o.features.join(', ')}`);
  const withoutFeatures = counted(ofSplit.filter(({ file }) => !store.has(file)).map(({ file }) => file));
  const ids = pictureIds(images);
  return withGpu(o, async () => {
    const models = checkpoints.map(({ config: { sizes, options }, weights }) => Captioner.fromWeights(sizes, options, weights));
    const model = models.length === 1 ? models[0] : new Ensemble(models);
    const neighbors = openNeighbors(o, checkpoint);
    const bar = progress(o, 'eval', images.length, 'pictures');
    const started = performance.now();
    const list: Scored[] = [];
    for (let first = 0; first < images.length; first += o.batch) {
      using _batch = scope();
      const part = images.slice(first, first + o.batch);
      const features = featureTensor(await store.readStored(part.map(({ file }) => file)), [part.length, store.index.regions, store.index.width]);
      const found = await rankedCaptions(model.decoding, features, asked, neighbors);
      found.forEach(([{ tokens }], i) => {
        const caption = vocabulary.decode(tokens.filter((id) => id > 0));
        list.push({ image_id: reportedId(ids[first + i]), caption, references: part[i].captions });
      });
      bar.update(Math.min(images.length, first + o.batch));
    }
    bar.stop();
    const seconds = (performance.now() - started) / 1000;
    model.dispose();
    neighbors?.dispose();
    await store.close();
    if (o.out) writeFileAtomic(o.out, [resultsText(list.map(({ caption }, i) => ({ id: ids[i], caption })))]);
    const training = new Set(
      dataset.images.filter(({ split }) => split === 'train').flatMap(({ captions }) => captions.map((text) => captionTokens(text).join(' '))),
    );
    const scores = scoreCaptions(list, { bootstrap: o.bootstrap, training, collection });
    const decoding = {
      models: modelPaths,
      beam: o.beam,
      penalty: o.beam === 1 ? null : o.penalty,
      consensus: o.consensus,
      seconds,
      picturesPerSecond: images.length / seconds,
    };
    result(o, { ...scores, split: o.split, withoutFeatures, decoding }, () =>
      [
        ...report(scores),
        ...told(withoutFeatures, ofSplit.length, `without features in ${o.features.join(', ')}, so not counted`),
        `${o.split} split, ${checkpoints.length > 1 ? `an ensemble of ${checkpoints.length} models, ` : ''}${describeDecoding(o)}, ${duration(seconds)}`,
      ].join('\n'),
    );
    return 0;
  });
}
