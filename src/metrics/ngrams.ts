/** Counts of the word n-grams of a sentence. BLEU and CIDEr share this. */

/** For n = 1 … 4, each n-gram's count. */
export function ngramCounts(words: readonly string[]): Map<string, number>[] {
  return [1, 2, 3, 4].map((n) => {
    const counts = new Map<string, number>();
    for (let i = 0; i + n <= words.length; i++) {
      const gram = words.slice(i, i + n).join(' ');
      counts.set(gram, (counts.get(gram) ?? 0) + 1);
    }
    return counts;
  });
}
