/**
 * Words and their ids: the rules that make words of a caption, the special words, the vocabulary. Pure: no file, no host.
 */
import { GlimpseError } from '../errors.ts';
import { captionTokens } from '../metrics/ptb.ts';

export const WORD_RULES = ['ascii', 'ptb', 'unicode'] as const;
/** What a rule was called once → what it is called now. */
export const RENAMED_WORD_RULES = { seed: 'ascii' } as const;
/**
 * How a caption becomes words, lower-case all of them. `ascii`: everything but letters a–z, digits and spaces is dropped
 * ("man's" becomes "mans"). `ptb`: the tokens that scores are defined on ("man 's"). `unicode`: letters, marks and digits of
 * any script, everything else separates.
 */
export type WordRule = (typeof WORD_RULES)[number];

export function wordsOf(caption: string, rule: WordRule): string[] {
  if (rule === 'ptb') return captionTokens(caption);
  const lower = caption.normalize('NFC').toLowerCase();
  return (rule === 'ascii' ? lower.replace(/[^a-z0-9\s]/g, '') : lower.replace(/[^\p{L}\p{M}\p{N}]+/gu, ' ')).split(/\s+/).filter(Boolean);
}

/** Words by falling frequency, ties by first appearance. The special words come first, so that suppressing them is one comparison. */
export const SPECIAL_WORDS = ['<pad>', '<unk>', 'startseq', 'endseq'];
export const [PAD, UNKNOWN, START, END] = [0, 1, 2, 3];

export class Vocabulary {
  private readonly ids: Map<string, number>;

  constructor(readonly words: readonly string[]) {
    if (SPECIAL_WORDS.some((word, i) => words[i] !== word)) throw new GlimpseError(`a vocabulary starts with ${SPECIAL_WORDS.join(', ')}`);
    this.ids = new Map(words.map((word, id) => [word, id]));
    if (this.ids.size !== words.length) throw new GlimpseError('the vocabulary lists a word twice');
  }

  static build(captions: Iterable<readonly string[]>, size: number, minCount: number): Vocabulary {
    const counts = new Map<string, number>();
    for (const words of captions) for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
    const kept = [...counts].filter(([word, count]) => count >= minCount && !SPECIAL_WORDS.includes(word)).sort((a, b) => b[1] - a[1]);
    return new Vocabulary([...SPECIAL_WORDS, ...kept.slice(0, Math.max(0, size - SPECIAL_WORDS.length)).map(([word]) => word)]);
  }

  get size(): number {
    return this.words.length;
  }

  /** startseq … endseq, at most `maxLength` ids in all: cut at the end, endseq kept. */
  encode(words: readonly string[], maxLength: number): number[] {
    const ids = words.slice(0, maxLength - 2).map((word) => (SPECIAL_WORDS.includes(word) ? UNKNOWN : (this.ids.get(word) ?? UNKNOWN)));
    return [START, ...ids, END];
  }

  decode(ids: readonly number[]): string {
    return ids.map((id) => this.words[id] ?? '<unk>').join(' ');
  }
}
