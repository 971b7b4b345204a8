/**
 * All scores of a set of captions, in coco-caption's units: BLEU-1 … 4, METEOR, ROUGE-L and CIDEr-D on PTB tokens. Each is given
 * for the corpus and for each picture, with intervals by bootstrap over pictures. The report also tells how varied the captions are.
 * It counts captions without words, and says so where CIDEr-D cannot be other than 0.
 */
import { GlimpseError } from '../errors.ts';
import { bleu, bleuOf } from './bleu.ts';
import { CiderD, ciderD } from './cider.ts';
import { endsInFunctionWord } from './function_words.ts';
import { Meteor, meteorOf } from './meteor.ts';
import { captionTokens, TOKENIZER } from './ptb.ts';
import { rougeL } from './rouge.ts';
import { WordNet } from './wordnet.ts';

export interface Scored {
  image_id: string | number;
  caption: string;
  references: string[];
}

/** Captions by picture, whose document frequencies CIDEr-D takes, and what they are called. */
export interface Collection {
  name: string;
  captions: ReadonlyMap<string | number, readonly string[]>;
}

/** How many pictures something is true of, and the first of them. */
export interface Affected {
  count: number;
  example: string | number | null;
}

/** METEOR compares all words of a caption with all of a reference: two of this length take some seconds. */
const MOST_WORDS = 10_000;

export interface ScoreReport {
  Bleu_1: number;
  Bleu_2: number;
  Bleu_3: number;
  Bleu_4: number;
  ROUGE_L: number;
  CIDEr: number;
  METEOR: number;
  meteorModules: string[];
  images: number;
  tokenizer: string;
  /** What CIDEr-D's document frequencies are of: a collection, or (null) the references themselves. */
  documentFrequencies: { collection: string | null; images: number };
  /** Pictures whose caption has no word, and pictures with such a reference. Both are scored as they are. */
  emptyCandidates: Affected;
  emptyReferences: Affected;
  /** Sentences about numbers that would surprise. */
  notes: string[];
  /** 95 % intervals over resampled pictures; empty without `bootstrap`. */
  intervals: Record<string, [number, number]>;
  captions: {
    distinctWords: number;
    meanLength: number;
    endInFunctionWord: number;
    seenInTraining: number | null;
    unknownRate: number;
    distinctCaptions: number;
  };
  perImage: { image_id: string | number; Bleu_1: number; Bleu_2: number; Bleu_3: number; Bleu_4: number; METEOR: number; ROUGE_L: number; CIDEr: number }[];
}

/** A small generator for resampling (xorshift). Intervals need no better one, but the same numbers every time. */
function resampler(count: number): () => number {
  let state = 123456789;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % count;
  };
}

function interval(samples: number[]): [number, number] {
  samples.sort((a, b) => a - b);
  return [samples[Math.floor(0.025 * samples.length)], samples[Math.floor(0.975 * samples.length)]];
}

/** Counts the pictures that a test is true of. */
export function affected(ids: readonly (string | number)[], test: (id: string | number, i: number) => boolean): Affected {
  const found = ids.filter(test);
  return { count: found.length, example: found[0] ?? null };
}

/** The tokens of a caption. Errors say whose it is. */
function tokensOf(caption: string, whose: string): string[] {
  try {
    const tokens = captionTokens(caption);
    if (tokens.length <= MOST_WORDS) return tokens;
    throw new GlimpseError(`a caption has at most ${MOST_WORDS.toLocaleString('en-US')} words, got ${tokens.length.toLocaleString('en-US')}`);
  } catch (error) {
    throw error instanceof GlimpseError ? new GlimpseError(`${whose}: ${error.message}`) : error;
  }
}

function documentsOf({ name, captions }: Collection): string[][][] {
  if (captions.size === 0) throw new GlimpseError(`${name} has no captions to take document frequencies from`);
  return [...captions].map(([id, texts]) => texts.map((text, i) => tokensOf(text, `${name}, caption ${i + 1} of picture ${id}`)));
}

/** Why CIDEr-D cannot be other than 0, if it cannot. */
function whyZero(cider: CiderD, references: readonly (readonly (readonly string[])[])[]): string[] {
  if (cider.weighs(references.flat())) return [];
  return cider.images === 1
    ? ['document frequencies of 1 picture: CIDEr-D is 0 by definition, as log 1 = 0']
    : [`document frequencies of ${cider.images} pictures, all with every n-gram of the references: CIDEr-D is 0 by definition`];
}

/**
 * `bootstrap` is the number of resamplings. `training` holds the captions trained on, as joined tokens, to count repetitions of them.
 * CIDEr-D takes the document frequencies of `collection`, else those of the references. Throws a GlimpseError if a picture has no
 * reference, or a caption more than 10,000 words.
 */
export function scoreCaptions(
  list: readonly Scored[],
  options: { bootstrap?: number; training?: ReadonlySet<string>; collection?: Collection } = {},
): ScoreReport {
  const bare = list.find((each) => each.references.length === 0);
  if (bare) throw new GlimpseError(`picture ${bare.image_id} has no reference to score its caption against`);
  const candidates = list.map(({ image_id, caption }) => tokensOf(caption, `the caption of picture ${image_id}`));
  const references = list.map((each) => each.references.map((text, i) => tokensOf(text, `reference ${i + 1} of picture ${each.image_id}`)));
  const ids = list.map(({ image_id }) => image_id);
  const { collection } = options;
  const cider = new CiderD(collection ? documentsOf(collection) : references);
  const [b, r, c] = [bleu(candidates, references), rougeL(candidates, references), ciderD(candidates, references, cider)];
  const meteor = new Meteor(WordNet.installed());
  const m = meteor.score(candidates, references);
  const intervals: ScoreReport['intervals'] = {};
  const rounds = options.bootstrap ?? 0;
  if (rounds > 0 && list.length > 1) {
    const next = resampler(list.length);
    const samples: Record<string, number[]> = { Bleu_1: [], Bleu_2: [], Bleu_3: [], Bleu_4: [], METEOR: [], ROUGE_L: [], CIDEr: [] };
    for (let i = 0; i < rounds; i++) {
      const chosen = list.map(next);
      bleuOf(chosen.map((at) => b.statistics[at])).forEach((value, n) => {
        samples[`Bleu_${n + 1}`].push(value);
      });
      samples.METEOR.push(meteorOf(chosen.map((at) => m.statistics[at])));
      samples.ROUGE_L.push(chosen.reduce((sum, at) => sum + r.perImage[at], 0) / list.length);
      samples.CIDEr.push(chosen.reduce((sum, at) => sum + c.perImage[at], 0) / list.length);
    }
    for (const [name, values] of Object.entries(samples)) intervals[name] = interval(values);
  }
  const words = candidates.flat();
  const texts = candidates.map((tokens) => tokens.join(' '));
  const share = (count: number) => count / Math.max(1, list.length);
  return {
    Bleu_1: b.corpus[0],
    Bleu_2: b.corpus[1],
    Bleu_3: b.corpus[2],
    Bleu_4: b.corpus[3],
    ROUGE_L: r.mean,
    CIDEr: c.mean,
    METEOR: m.corpus,
    meteorModules: [...meteor.modules],
    images: list.length,
    tokenizer: TOKENIZER,
    documentFrequencies: { collection: collection?.name ?? null, images: cider.images },
    emptyCandidates: affected(ids, (_, i) => candidates[i].length === 0),
    emptyReferences: affected(ids, (_, i) => references[i].some((words) => words.length === 0)),
    notes: whyZero(cider, references),
    intervals,
    captions: {
      distinctWords: new Set(words).size,
      meanLength: words.length / Math.max(1, list.length),
      endInFunctionWord: share(candidates.filter(endsInFunctionWord).length),
      seenInTraining: options.training ? share(texts.filter((text) => options.training?.has(text)).length) : null,
      unknownRate: words.filter((word) => word === '<unk>').length / Math.max(1, words.length),
      distinctCaptions: new Set(texts).size,
    },
    perImage: list.map(({ image_id }, i) => ({
      image_id,
      Bleu_1: b.perImage[i][0],
      Bleu_2: b.perImage[i][1],
      Bleu_3: b.perImage[i][2],
      Bleu_4: b.perImage[i][3],
      METEOR: m.perImage[i],
      ROUGE_L: r.perImage[i],
      CIDEr: c.perImage[i],
    })),
  };
}
