/**
 * ROUGE-L (Lin 2004) as coco-caption computes it, from the longest common subsequence with each reference. The best precision
 * and the best recall are taken independently and give F with β = 1.2. The score is the mean over pictures, 0 … 1.
 */
const BETA = 1.2;

/** The length of the longest common subsequence. Two rows of the table are kept, not all. */
function commonSubsequence(a: readonly string[], b: readonly string[]): number {
  const numbers = new Map<string, number>(); // comparing numbers is faster than comparing words
  const numbered = (words: readonly string[]) =>
    Int32Array.from(words, (word) => {
      const known = numbers.get(word) ?? numbers.size;
      numbers.set(word, known);
      return known;
    });
  const [rows, columns] = [numbered(a), numbered(b)];
  let [row, next] = [new Uint32Array(b.length + 1), new Uint32Array(b.length + 1)];
  for (const word of rows) {
    for (let j = 0; j < columns.length; j++) next[j + 1] = word === columns[j] ? row[j] + 1 : Math.max(next[j], row[j + 1]);
    [row, next] = [next, row];
  }
  return row[b.length];
}

/** An empty sentence has one empty word, because the original calls `split(" ")`. */
const wordsOf = (words: readonly string[]): readonly string[] => (words.length === 0 ? [''] : words);

export function rougeL(
  candidates: readonly (readonly string[])[],
  references: readonly (readonly (readonly string[])[])[],
): { mean: number; perImage: number[] } {
  const perImage = candidates.map((words, i) => {
    const candidate = wordsOf(words);
    let precision = 0;
    let recall = 0;
    for (const each of references[i]) {
      const reference = wordsOf(each);
      const common = commonSubsequence(candidate, reference);
      precision = Math.max(precision, common / candidate.length);
      recall = Math.max(recall, common / reference.length);
    }
    return precision === 0 || recall === 0 ? 0 : ((1 + BETA ** 2) * precision * recall) / (recall + BETA ** 2 * precision);
  });
  return { mean: perImage.reduce((sum, score) => sum + score, 0) / Math.max(1, perImage.length), perImage };
}
