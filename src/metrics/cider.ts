/**
 * CIDEr-D (Vedantam, Zitnick and Parikh 2015) as coco-caption computes it: n = 1 … 4, document frequencies over the scored
 * pictures, clipped counts, a Gaussian penalty on the difference of lengths (in bigrams, σ = 6), times 10. Mean over pictures.
 */
import { ngramCounts } from './ngrams.ts';

type Counts = ReturnType<typeof ngramCounts>;

interface Weighted {
  weights: Map<string, number>[];
  norms: number[];
  bigrams: number;
}

/** candidates[i] is scored against references[i]; all are lists of words. Per picture, 0 … 10. */
export function ciderD(
  candidates: readonly (readonly string[])[],
  references: readonly (readonly (readonly string[])[])[],
): { mean: number; perImage: number[] } {
  const referenceCounts = references.map((list) => list.map(ngramCounts));
  const documents = new Map<string, number>();
  for (const list of referenceCounts) {
    const seen = new Set(list.flatMap((counts) => counts.flatMap((byGram) => [...byGram.keys()])));
    for (const gram of seen) documents.set(gram, (documents.get(gram) ?? 0) + 1);
  }
  const logImages = Math.log(references.length);
  const weigh = (counts: Counts): Weighted => {
    const weights = counts.map(
      (byGram) => new Map([...byGram].map(([gram, count]) => [gram, count * (logImages - Math.log(Math.max(1, documents.get(gram) ?? 0)))])),
    );
    const norms = weights.map((byGram) => Math.sqrt([...byGram.values()].reduce((sum, value) => sum + value * value, 0)));
    return { weights, norms, bigrams: [...counts[1].values()].reduce((sum, count) => sum + count, 0) };
  };
  const similarity = (a: Weighted, b: Weighted): number => {
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
  };
  const perImage = candidates.map((words, i) => {
    const own = weigh(ngramCounts(words));
    const scores = referenceCounts[i].map((counts) => similarity(own, weigh(counts)));
    return (10 * scores.reduce((sum, score) => sum + score, 0)) / Math.max(1, scores.length);
  });
  return { mean: perImage.reduce((sum, score) => sum + score, 0) / Math.max(1, perImage.length), perImage };
}
