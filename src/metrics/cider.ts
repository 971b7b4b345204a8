/**
 * CIDEr-D (Vedantam, Zitnick and Parikh 2015) as coco-caption computes it: n = 1 … 4, document frequencies over the scored
 * pictures, clipped counts, and a Gaussian penalty on the difference of lengths (in bigrams, σ = 6). A score is 0 … 10; that of
 * the corpus is the mean over pictures.
 */
import { ngramCounts } from './ngrams.ts';

interface Weighted {
  weights: Map<string, number>[];
  norms: number[];
  bigrams: number;
}

/** Scores captions with the document frequencies of a collection of references. */
export class CiderD {
  private readonly documents = new Map<string, number>();
  private readonly logImages: number;

  /** `collection` holds each picture's references. */
  constructor(collection: readonly (readonly (readonly string[])[])[]) {
    for (const references of collection) {
      const seen = new Set(references.flatMap((words) => ngramCounts(words).flatMap((byGram) => [...byGram.keys()])));
      for (const gram of seen) this.documents.set(gram, (this.documents.get(gram) ?? 0) + 1);
    }
    this.logImages = Math.log(collection.length);
  }

  private weigh(words: readonly string[]): Weighted {
    const counts = ngramCounts(words);
    const weights = counts.map(
      (byGram) => new Map([...byGram].map(([gram, count]) => [gram, count * (this.logImages - Math.log(Math.max(1, this.documents.get(gram) ?? 0)))])),
    );
    const norms = weights.map((byGram) => Math.sqrt([...byGram.values()].reduce((sum, value) => sum + value * value, 0)));
    return { weights, norms, bigrams: [...counts[1].values()].reduce((sum, count) => sum + count, 0) };
  }

  /** Scores of several captions of one picture against its references, each 0 … 10. */
  scores(candidates: readonly (readonly string[])[], references: readonly (readonly string[])[]): number[] {
    const known = references.map((words) => this.weigh(words));
    return candidates.map((words) => {
      const own = this.weigh(words);
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

/** Scores candidates[i] against references[i], as lists of words. Document frequencies are those of `references`. */
export function ciderD(
  candidates: readonly (readonly string[])[],
  references: readonly (readonly (readonly string[])[])[],
): { mean: number; perImage: number[] } {
  const scorer = new CiderD(references);
  const perImage = candidates.map((words, i) => scorer.scores([words], references[i])[0]);
  return { mean: perImage.reduce((sum, score) => sum + score, 0) / Math.max(1, perImage.length), perImage };
}
