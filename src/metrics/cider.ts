/**
 * CIDEr-D (Vedantam, Zitnick and Parikh 2015) as coco-caption computes it: n = 1 … 4, clipped counts, and a Gaussian penalty on
 * the difference of lengths (in bigrams, σ = 6). Document frequencies are those of the scored pictures, or of a collection (its
 * "df" mode). A score is 0 … 10; that of the corpus is the mean over pictures.
 *
 * An n-gram weighs log N − log(document frequency), where N is the number of pictures of the collection. One that all have weighs
 * 0, so scores by the document frequencies of a single picture are 0.
 */
import { ngramCounts } from './ngrams.ts';

/** The n-grams of a caption with what each weighs, for n = 1 … 4. */
interface Weighted {
  weights: Map<string, number>[];
  norms: number[];
  bigrams: number;
}

/** Every n-gram weighs its count times its rarity. */
function weigh(words: readonly string[], rarity: (gram: string) => number): Weighted {
  const counts = ngramCounts(words);
  const weights = counts.map((byGram) => new Map([...byGram].map(([gram, count]) => [gram, count * rarity(gram)])));
  const norms = weights.map((byGram) => Math.sqrt([...byGram.values()].reduce((sum, value) => sum + value * value, 0)));
  return { weights, norms, bigrams: [...counts[1].values()].reduce((sum, count) => sum + count, 0) };
}

/** Scores captions with the document frequencies of a collection of references. */
export class CiderD {
  private readonly documents = new Map<string, number>();
  private readonly logImages: number;
  /** Candidates, since those of a picture may be scored against many references, one picture's after the other. */
  private readonly candidates = new WeakMap<readonly string[], Weighted>();
  /** How many pictures the document frequencies are of. */
  readonly images: number;

  /** `collection` holds each picture's references. */
  constructor(collection: readonly (readonly (readonly string[])[])[]) {
    this.images = collection.length;
    for (const references of collection) {
      const seen = new Set(references.flatMap((words) => ngramCounts(words).flatMap((byGram) => [...byGram.keys()])));
      for (const gram of seen) this.documents.set(gram, (this.documents.get(gram) ?? 0) + 1);
    }
    this.logImages = Math.log(collection.length);
  }

  private weigh(words: readonly string[]): Weighted {
    return weigh(words, (gram) => this.logImages - Math.log(Math.max(1, this.documents.get(gram) ?? 0)));
  }

  /** Whether any n-gram of these captions weighs something. If none does, whatever is scored against them gets 0. */
  weighs(captions: Iterable<readonly string[]>): boolean {
    for (const words of captions) if (this.weigh(words).norms.some((norm) => norm > 0)) return true;
    return false;
  }

  /** Scores of several captions of one picture against its references, each 0 … 10. */
  scores(candidates: readonly (readonly string[])[], references: readonly (readonly string[])[]): number[] {
    const known = references.map((words) => this.weigh(words));
    return candidates.map((words) => {
      const own = this.candidates.get(words) ?? this.weigh(words);
      this.candidates.set(words, own);
      return (10 * known.reduce((sum, other) => sum + similarity(own, other), 0)) / Math.max(1, known.length);
    });
  }
}

function similarity(a: Weighted, b: Weighted): number {
  const penalty = Math.exp(-((a.bigrams - b.bigrams) ** 2) / (2 * 6 ** 2));
  let total = 0;
  for (let n = 0; n < 4; n++) {
    if (a.norms[n] === 0 || b.norms[n] === 0) continue;
    let dot = 0;
    for (const [gram, weight] of a.weights[n]) {
      const other = b.weights[n].get(gram);
      if (other !== undefined) dot += Math.min(weight, other) * other;
    }
    total += (dot / (a.norms[n] * b.norms[n])) * penalty;
  }
  return total / 4;
}

/**
 * For each caption, its mean similarity to all of them, 0 … 1: CIDEr-D where every n-gram is as rare as any other. So no collection is
 * needed. Of the captions that a model may say, the one with the most is what they agree on.
 */
export function agreement(captions: readonly (readonly string[])[]): number[] {
  const weighed = captions.map((words) => weigh(words, () => 1));
  return weighed.map((own) => weighed.reduce((sum, other) => sum + similarity(own, other), 0) / captions.length);
}

/** Scores candidates[i] against references[i], as lists of words. Document frequencies are those of `references` or of `scorer`. */
export function ciderD(
  candidates: readonly (readonly string[])[],
  references: readonly (readonly (readonly string[])[])[],
  scorer = new CiderD(references),
): { mean: number; perImage: number[] } {
  const perImage = candidates.map((words, i) => scorer.scores([words], references[i])[0]);
  return { mean: perImage.reduce((sum, score) => sum + score, 0) / Math.max(1, perImage.length), perImage };
}
