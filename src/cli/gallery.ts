/**
 * `glimpse gallery`: what a trained model says of pictures, and where it looks at each word: a self-contained page, and a PNG
 * per picture. The pictures are files, or those of a split, of which the best, the worst and some at random are shown.
 */
import { createHash } from 'node:crypto';
import { basename, join, parse, resolve } from 'node:path';
import { type Counted, counted, examplesOf } from '../counted.ts';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { readDataset } from '../data/captions.ts';
import { readReferencesByFile } from '../data/coco_results.ts';
import type { PictureFile } from '../data/images.ts';
import { countLeftOut, type LeftOut, picturesIn } from '../data/picture_folder.ts';
import { placedPicture } from '../data/picture_places.ts';
import { type Preprocessing, preprocessingOf } from '../data/preprocessing.ts';
import type { Vocabulary } from '../data/words.ts';
import { FileError, GlimpseError, UsageError } from '../errors.ts';
import { type AttentionReport, attentionReport } from '../metrics/attention.ts';
import { type ScoreReport, scoreCaptions } from '../metrics/score.ts';
import { Captioner } from '../model/captioner/captioner.ts';
import type { RankedCaption } from '../model/captioner/decoding.ts';
import { openEncoderOf } from '../model/encoder/encoder.ts';
import type { Checkpoint } from '../model/training/checkpoint.ts';
import { vocabularyOf } from '../model/training/checkpoint_format.ts';
import { contactSheet, dataUrl, heatMap, readPixels } from '../plot/heat_map.ts';
import { Random } from '../random.ts';
import { scope, tensor } from '../tensor/tensor.ts';
import type { GalleryOptions } from './commands/gallery.ts';
import { checkDecoding, decodingOf, describeDecoding, openNeighbors } from './decoding.ts';
import { openFeatures } from './feature_stores.ts';
import { progress, result, say, sayLeftOut } from './output.ts';
import { figure, inPage, PAGE_STYLE } from './page.ts';
import { checkpointAt, withGpu } from './session.ts';

interface Pictured {
  /** What the picture is called: its path, or its name in a shard. */
  path: string;
  /** Its file, or its bytes out of a shard. They are read again where they are needed. */
  picture: () => Promise<PictureFile>;
}

interface Shown extends Pictured {
  references: string[];
  /** Best first: by `score`. */
  hypotheses: { caption: string; logProb: number; score: number }[];
  words: { word: string; probability: number; alpha: Float32Array }[];
  attention: AttentionReport;
  scores: ScoreReport['perImage'][number] | null;
}

const BATCH = 8;
const MAP_HEIGHT = 128;
const PICTURE_HEIGHT = 300;

interface Source extends Pictured {
  references: string[];
  /** Null for a picture that is left out, as --skip-bad asks. */
  features: () => Promise<Float32Array | null>;
}

interface Sources {
  list: Source[];
  close: () => Promise<void>;
  leftOut: LeftOut[];
  /** Pictures of the split without features. */
  withoutFeatures: Counted;
}

/** Where the pictures come from. What they leave out of a folder is in `leftOut`, to which bad pictures are added. */
async function sources(o: GalleryOptions, checkpoint: Checkpoint, given: readonly string[]): Promise<Sources> {
  if (given.length > 0) {
    const { pictures, leftOut } = await picturesIn(given);
    const references = o.references ? readReferencesByFile(o.references, o.encoding).captionsOf(pictures) : [];
    const encoder = await openEncoderOf(checkpoint, o.encoder);
    const list = pictures.map((path, i) => ({
      ...{ path, picture: async () => path },
      references: references[i] ?? [],
      features: async () => {
        const pixels = await encoder.attempt(path);
        if (!(pixels instanceof FileError)) return (await encoder.features([pixels], [path])).values;
        if (!o.skipBad) throw new GlimpseError(`${pixels.message}\n  Replace the picture, or leave such pictures out with --skip-bad.`);
        leftOut.push({ path, why: pixels.message.slice(path.length + 2) });
        return null;
      },
    }));
    return { list, close: async () => encoder.dispose(), leftOut, withoutFeatures: counted([]) };
  }
  const dataset = readDataset(o.data as string);
  const store = await openFeatures(o, o.features as string[]);
  store.requireEncoder(checkpoint.encoder);
  const ofSplit = dataset.images.filter(({ split }) => split === o.split);
  const images = ofSplit.filter(({ file }) => store.has(file)).slice(0, o.limit);
  if (images.length === 0) throw new GlimpseError(`no picture of the split ${o.split} has features in ${o.features?.join(', ')}`);
  const list = images.map(({ file, captions, at }) => ({
    ...{ path: join(dataset.imageFolder, file), picture: () => placedPicture(dataset, { file, at }, o.followLinks ?? false) },
    references: captions,
    features: () => store.read([file]),
  }));
  const withoutFeatures = counted(ofSplit.filter(({ file }) => !store.has(file)).map(({ file }) => file));
  if (withoutFeatures.count > 0)
    say(o, `${withoutFeatures.count} of ${ofSplit.length} pictures have no features and are left out${examplesOf(withoutFeatures)}`);
  return { list, close: () => store.close(), leftOut: [], withoutFeatures };
}

function describe(source: Source, hypotheses: readonly RankedCaption[], vocabulary: Vocabulary): Shown {
  const [best] = hypotheses;
  const words = best.tokens.map((id, t) => ({ word: vocabulary.word(id), probability: Math.exp(best.logProbs[t]), alpha: best.alpha[t] }));
  return {
    ...{ path: source.path, picture: source.picture },
    references: source.references,
    hypotheses: hypotheses.map(({ tokens, logProb, score, agreement }) => ({ caption: vocabulary.decode(tokens), logProb, score: agreement ?? score })),
    words,
    attention: attentionReport(words.map(({ alpha }) => alpha)),
    scores: null,
  };
}

/** Best, worst, and some others at random; all of them when there are few. */
function chosen(shown: readonly Shown[], count: number, seed: number): { title: string; list: Shown[] }[] {
  const without = shown.filter(({ scores }) => scores === null);
  if (without.length === shown.length) return [{ title: 'Pictures', list: without }];
  if (without.length > 0)
    return [
      ...chosen(
        shown.filter(({ scores }) => scores !== null),
        count,
        seed,
      ),
      { title: 'Without references', list: without },
    ];
  const byCider = [...shown].sort((a, b) => (b.scores?.CIDEr ?? 0) - (a.scores?.CIDEr ?? 0));
  if (shown.length <= 3 * count) return [{ title: 'All pictures, by falling CIDEr-D', list: byCider }];
  const middle = byCider.slice(count, -count);
  const order = new Random(seed, 'pictures of a gallery').permutation(middle.length).slice(0, count);
  return [
    { title: 'The best by CIDEr-D', list: byCider.slice(0, count) },
    { title: 'At random among the others', list: Array.from(order, (i) => middle[i]) },
    { title: 'The worst by CIDEr-D', list: byCider.slice(-count).reverse() },
  ];
}

/** Neither two folders' pictures of one name nor odd names may collide. */
const sheetName = (path: string) => `${parse(path).name.replace(/[^\w.-]/g, '_')}-${createHash('sha256').update(resolve(path)).digest('hex').slice(0, 6)}.png`;

async function card(shown: Shown, out: string, preprocessing: Preprocessing): Promise<string> {
  const { path, references, hypotheses, words, attention, scores } = shown;
  const picture = await shown.picture();
  const small = await readPixels(picture, MAP_HEIGHT, preprocessing);
  const maps = await Promise.all(words.map(async ({ word, probability, alpha }) => ({ word, probability, pixels: await heatMap(small, alpha) })));
  const cells = [
    { pixels: small, label: '' },
    ...maps.map(({ word, probability, pixels }) => ({ pixels, label: `${word} ${(100 * probability).toFixed(0)} %` })),
  ];
  writeFileAtomic(join(out, sheetName(path)), [await contactSheet(cells, 7)]);
  const figures = await Promise.all(
    maps.map(async ({ word, probability, pixels }) => figure(await dataUrl(pixels, 'jpeg'), `attention at the word ${word}`, word, probability)),
  );
  const large = `<img src="${await dataUrl(await readPixels(picture, PICTURE_HEIGHT), 'jpeg')}" alt="${inPage(basename(path))}">`;
  const beams = hypotheses.slice(1).map(({ caption, score }) => `<li>${inPage(caption)} <small>${score.toFixed(3)}</small></li>`);
  const numbers = scores
    ? `CIDEr-D ${scores.CIDEr.toFixed(2)}, BLEU-4 ${scores.Bleu_4.toFixed(2)}, METEOR ${scores.METEOR.toFixed(2)}, ROUGE-L ${scores.ROUGE_L.toFixed(2)}; `
    : '';
  const { entropy, coverage, change, dead } = attention;
  return `<section><h3>${inPage(hypotheses[0].caption)}</h3>
<p class="dim">${inPage(basename(path))}; ${numbers}log-probability ${hypotheses[0].logProb.toFixed(2)}; attention: entropy ${entropy.toFixed(2)}, coverage ${coverage.toFixed(2)}, change per word ${change.toFixed(2)}</p>
${dead ? '<p class="warning">Attention is dead here: its map is the same at every word.</p>' : ''}
<div class="large">${large}<div>${references.length > 0 ? `<p class="dim">References:</p><ul>${references.map((text) => `<li>${inPage(text)}</li>`).join('')}</ul>` : ''}${beams.length > 0 ? `<p class="dim">Other hypotheses:</p><ul>${beams.join('')}</ul>` : ''}</div></div>
<div class="row">${figures.join('')}</div></section>`;
}

function page(title: string, facts: readonly (readonly [string, string])[], groups: readonly { title: string; cards: string[] }[]): string {
  const list = facts.map(([name, value]) => `<dt>${inPage(name)}</dt><dd>${inPage(value)}</dd>`).join('');
  const parts = groups.map((group) => `<h2>${inPage(group.title)}</h2>${group.cards.join('\n')}`).join('\n');
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${inPage(title)}</title><style>${PAGE_STYLE}</style></head><body>
<h1>${inPage(title)}</h1>
<p>Under each word stands the attention map of its step, dark at the least weight and bright at the largest. The number is the probability that the model gave the word.</p>
<dl>${list}</dl>
${parts}
</body></html>
`;
}

export async function gallery(o: GalleryOptions, modelPath: string, pictures: string[]): Promise<number> {
  checkDecoding(o);
  if (pictures.length === 0 && !o.data) throw new UsageError('give pictures, or --data with --features');
  const checkpoint = checkpointAt(o, modelPath);
  const { config } = checkpoint;
  const vocabulary = vocabularyOf(checkpoint);
  const asked = decodingOf(o, config);
  return withGpu(o, async (gpu) => {
    const { list, close, leftOut, withoutFeatures } = await sources(o, checkpoint, pictures);
    const model = Captioner.fromWeights(config.sizes, config.options, checkpoint.weights);
    const neighbors = openNeighbors(o, checkpoint);
    const shown: Shown[] = [];
    try {
      const bar = progress(o, 'gallery', list.length, 'pictures');
      for (let first = 0; first < list.length; first += BATCH) {
        using _batch = scope();
        const part: Source[] = [];
        const size = config.sizes.regions * config.sizes.features;
        const values = new Float32Array(Math.min(BATCH, list.length - first) * size);
        for (const source of list.slice(first, first + BATCH)) {
          const own = await source.features();
          if (own === null) continue;
          values.set(own, part.length * size);
          part.push(source);
        }
        if (part.length === 0) continue;
        const features = tensor(values.subarray(0, part.length * size), [part.length, config.sizes.regions, config.sizes.features]);
        const found = await (neighbors?.captions(model.decoding, features, asked, true) ?? model.decoding.beam(features, asked.maxLength, asked.beam, true));
        for (const [i, hypotheses] of found.entries()) shown.push(describe(part[i], hypotheses, vocabulary));
        bar.update(Math.min(list.length, first + BATCH));
      }
      bar.stop();
    } finally {
      model.dispose();
      neighbors?.dispose();
      await close();
    }
    sayLeftOut(o, countLeftOut(leftOut));
    if (shown.length === 0) throw new GlimpseError('no picture is left to show: all of them were left out');
    const withReferences = shown.filter(({ references }) => references.length > 0);
    const withoutReferences = counted(shown.filter(({ references }) => references.length === 0).map(({ path }) => path));
    const scored = withReferences.length > 0;
    if (scored && withoutReferences.count > 0) say(o, `${withoutReferences.count} pictures have no references and no scores${examplesOf(withoutReferences)}`);
    const scores = scored
      ? scoreCaptions(withReferences.map(({ path, hypotheses, references }) => ({ image_id: path, caption: hypotheses[0].caption, references })))
      : null;
    for (const note of scores?.notes ?? []) say(o, note);
    scores?.perImage.forEach((each, i) => {
      withReferences[i].scores = each;
    });
    const seenBy = preprocessingOf(checkpoint.encoder.preprocessing);
    const groups = await Promise.all(
      chosen(shown, o.count, o.seed).map(async ({ title, list: group }) => ({
        title,
        cards: await Promise.all(group.map((each) => card(each, o.out, seenBy))),
      })),
    );
    const dead = shown.filter(({ attention }) => attention.dead).length;
    if (dead > 0) say(o, `warning: attention is dead in ${dead} of ${shown.length} captions: their maps are the same at every word`);
    const mean = (value: (report: AttentionReport) => number) => shown.reduce((sum, { attention }) => sum + value(attention), 0) / shown.length;
    const attention = { entropy: mean((a) => a.entropy), coverage: mean((a) => a.coverage), change: mean((a) => a.change), dead };
    const facts: [string, string][] = [
      ['pictures', String(shown.length)],
      ...(scores
        ? [['scores', `CIDEr-D ${scores.CIDEr.toFixed(3)}, BLEU-4 ${scores.Bleu_4.toFixed(3)}, METEOR ${scores.METEOR.toFixed(3)}`] as [string, string]]
        : []),
      [
        'attention',
        `entropy ${attention.entropy.toFixed(2)}, coverage ${attention.coverage.toFixed(2)}, change per word ${attention.change.toFixed(2)}, dead in ${dead}`,
      ],
      ['decoding', describeDecoding(o)],
      ['adapter', gpu.description],
    ];
    const out = join(o.out, 'index.html');
    writeFileAtomic(out, [page(`What ${basename(resolve(modelPath))} sees`, facts, groups)]);
    const listed = shown.map(({ path, hypotheses, attention: own, scores: numbers }) => ({
      image: path,
      caption: hypotheses[0].caption,
      attention: own,
      scores: numbers,
    }));
    result(o, { out, pictures: listed, attention, leftOut: countLeftOut(leftOut), withoutFeatures, withoutReferences, adapter: gpu.description }, () => [
      `${resolve(out)}: ${shown.length} pictures captioned, ${leftOut.length} files left out; a PNG of maps beside it for each one shown`,
    ]);
    return 0;
  });
}
