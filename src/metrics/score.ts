/**
 * All scores of a set of captions, in coco-caption's units: BLEU-1 … 4, METEOR, ROUGE-L and CIDEr-D on PTB tokens. Each is given
 * for the corpus and for each picture, with intervals by bootstrap over pictures. The report also tells how varied the captions are.
 */
import { bleu, bleuOf } from './bleu.ts';
import { ciderD } from './cider.ts';
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

/** `bootstrap` is the number of resamplings. `training` holds the captions trained on, as joined tokens, to count repetitions of them. */
export function scoreCaptions(list: readonly Scored[], options: { bootstrap?: number; training?: ReadonlySet<string> } = {}): ScoreReport {
  const candidates = list.map(({ caption }) => captionTokens(caption));
  const references = list.map((each) => each.references.map(captionTokens));
  const [b, r, c] = [bleu(candidates, references), rougeL(candidates, references), ciderD(candidates, references)];
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
