/**
 * BLEU (Papineni and others 2002) as coco-caption computes it: clipped n-gram precisions to n = 4, and a brevity penalty. The
 * penalty takes the length of the closest reference; ties go to the shorter. Tiny constants guard against zero counts. Scores
 * are 0 … 1, for the corpus and for each picture.
 */
import { ngramCounts } from './ngrams.ts';

const TINY = 1e-15;
const SMALL = 1e-9;

/** The statistics of a sentence. Those of a corpus are their sums. */
export interface BleuStatistics {
  correct: number[];
  guesses: number[];
  length: number;
  referenceLength: number;
}

function statistics(candidate: readonly string[], references: readonly (readonly string[])[]): BleuStatistics {
  const own = ngramCounts(candidate);
  const most = own.map(() => new Map<string, number>());
  for (const reference of references)
    ngramCounts(reference).forEach((counts, n) => {
      for (const [gram, count] of counts) if (own[n].has(gram)) most[n].set(gram, Math.max(count, most[n].get(gram) ?? 0));
    });
  const correct = own.map((counts, n) => {
    let total = 0;
    for (const [gram, count] of counts) total += Math.min(count, most[n].get(gram) ?? 0);
    return total;
  });
  const guesses = [1, 2, 3, 4].map((n) => Math.max(0, candidate.length - n + 1));
  const lengths = references.map((reference) => reference.length);
  const referenceLength = lengths.reduce((best, length) => {
    const [a, b] = [Math.abs(length - candidate.length), Math.abs(best - candidate.length)];
    return a < b || (a === b && length < best) ? length : best;
  }, lengths[0] ?? 0);
  return { correct, guesses, length: candidate.length, referenceLength };
}

function scores({ correct, guesses, length, referenceLength }: BleuStatistics): number[] {
  const ratio = (length + TINY) / (referenceLength + SMALL);
  const penalty = ratio < 1 ? Math.exp(1 - 1 / ratio) : 1;
  let product = 1;
  return correct.map((count, n) => {
    product *= (count + TINY) / (guesses[n] + SMALL);
    return product ** (1 / (n + 1)) * penalty;
  });
}

/** BLEU-1 … 4 of the corpus, and of each picture. */
export function bleu(
  candidates: readonly (readonly string[])[],
  references: readonly (readonly (readonly string[])[])[],
): { corpus: number[]; perImage: number[][]; statistics: BleuStatistics[] } {
  const all = candidates.map((candidate, i) => statistics(candidate, references[i]));
  return { corpus: bleuOf(all), perImage: all.map(scores), statistics: all };
}

/** BLEU-1 … 4 of the corpus of these pictures. */
export function bleuOf(all: readonly BleuStatistics[]): number[] {
  const total: BleuStatistics = { correct: [0, 0, 0, 0], guesses: [0, 0, 0, 0], length: 0, referenceLength: 0 };
  for (const one of all) {
    for (let n = 0; n < 4; n++) {
      total.correct[n] += one.correct[n];
      total.guesses[n] += one.guesses[n];
    }
    total.length += one.length;
    total.referenceLength += one.referenceLength;
  }
  return scores(total);
}
