/** Words and their ids: the rules that split captions into words, the special words, the vocabulary. Uses no file and no host. */
import { GlimpseError } from '../errors.ts';
import { captionTokens } from '../metrics/ptb.ts';
import { printable, withoutControls } from '../printable.ts';
import { asWritten, BYTE_TOKENS, type BytePairs, isToken, textOfTokens } from './byte_pairs.ts';

export const WORD_RULES = ['ascii', 'ptb', 'unicode', 'byte-pairs'] as const;
/** Old name of a rule → its name now. */
export const RENAMED_WORD_RULES = { seed: 'ascii' } as const;
/**
 * How a caption is split into words, all of them lower-case. `ascii` drops everything but letters a–z, digits and spaces
 * ("man's" becomes "mans"). `ptb` gives the tokens that scores are defined on ("man 's"). `unicode` keeps letters, marks and
 * digits of any script; everything else separates words. `byte-pairs` is the rule of a language model (byte_pairs.ts): it keeps
 * capitals and marks, and words are tokens, which say themselves where spaces are.
 */
export type WordRule = (typeof WORD_RULES)[number];
/** The rules that need nothing but the caption. */
export type PlainRule = Exclude<WordRule, 'byte-pairs'>;

const OPENING = /^(?:start(?:of)?seq(?=\s|$)|<(?:start(?:of)?(?:seq)?|s|sos|bos|go)>|\[(?:start|sos|bos|cls)\]|<\|[a-z_]+\|>)/i;
const CLOSING = /(?:(?<=^|\s)end(?:of)?seq|<(?:end(?:of)?(?:seq)?|\/s|eos|stop|pad)>|\[(?:end|eos|sep|pad)\]|<\|[a-z_]+\|>)$/i;
const PAIR = /^[sb]os\s(.*)\seos$/is;
/** No mark of a frame is longer. */
const LONGEST_MARK = 32;
/** No caption has more frames around each other. */
const MOST_FRAMES = 64;

/** The caption without the frame that others put around theirs, such as startseq … endseq or <start> … <end>; else as it is. */
export function unframed(caption: string): string {
  let inner = caption.trim();
  for (let frames = 0; frames < MOST_FRAMES; frames++) {
    const end = Math.max(0, inner.length - LONGEST_MARK);
    const opened = inner.replace(PAIR, '$1').replace(OPENING, '');
    const closed = opened === inner ? inner.slice(0, end) + inner.slice(end).replace(CLOSING, '') : opened;
    if (closed === inner) break;
    inner = closed.trim();
  }
  return inner === caption.trim() ? caption : inner;
}

/** The words of a caption by a rule. Control characters are dropped. */
export function wordsOf(caption: string, rule: PlainRule): string[] {
  const text = withoutControls(caption);
  if (rule === 'ptb') return captionTokens(text);
  const lower = text.normalize('NFC').toLowerCase();
  return (rule === 'ascii' ? lower.replace(/[^a-z0-9\s]/g, '') : lower.replace(/[^\p{L}\p{M}\p{N}]+/gu, ' ')).split(/\s+/).filter(Boolean);
}

/** The first words of every vocabulary. Three of the special ids are below endseq's, so suppressing them is one comparison. */
export const SPECIAL_WORDS = ['<pad>', '<unk>', 'startseq', 'endseq'];
export const [PAD, UNKNOWN, START, END] = [0, 1, 2, 3];

/** Words of the smallest vocabulary of byte pairs: the special ones and the bytes. */
export const SMALLEST_OF_TOKENS = SPECIAL_WORDS.length + BYTE_TOKENS.length;

/** The tokens of a caption, as a language model reads them. Control characters are dropped. */
export const tokensOf = (caption: string, bytePairs: BytePairs): string[] => bytePairs.tokens(asWritten(withoutControls(caption)));

/** Whether two vocabularies have the same words under the same ids. */
export const sameWords = (a: readonly string[], b: readonly string[]): boolean => a.length === b.length && a.every((word, id) => word === b[id]);

/** Words and their ids: four special words, then the most frequent first. */
export class Vocabulary {
  private readonly ids: Map<string, number>;

  /** `rule` is the one that made the words: it says how they are put together again. */
  constructor(
    readonly words: readonly string[],
    readonly rule: WordRule = 'ascii',
  ) {
    if (SPECIAL_WORDS.some((word, i) => words[i] !== word)) throw new GlimpseError(`a vocabulary starts with ${SPECIAL_WORDS.join(', ')}`);
    this.ids = new Map(words.map((word, id) => [word, id]));
    if (this.ids.size !== words.length) throw new GlimpseError('the vocabulary lists a word twice');
    const odd = rule === 'byte-pairs' ? words.slice(SPECIAL_WORDS.length).find((word) => !isToken(word)) : undefined;
    if (odd !== undefined) throw new GlimpseError(`the vocabulary has "${printable(odd)}" among its byte-pair tokens, which stands for no bytes`);
  }

  /**
   * At most `size` words: the special ones, then the most frequent of the captions. A word must occur `minCount` times. Ties go
   * to the word that appears first. With byte pairs, the tokens of single bytes come before the most frequent: every text can be said.
   * What is left of `size` is then filled with the tokens that are merged first.
   */
  static build(captions: Iterable<readonly string[]>, size: number, minCount: number, bytePairs: BytePairs | null = null): Vocabulary {
    const always = bytePairs ? [...SPECIAL_WORDS, ...BYTE_TOKENS] : SPECIAL_WORDS;
    const counts = new Map<string, number>();
    for (const words of captions) for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
    const listed = new Set(always);
    const kept = [...counts].filter(([word, count]) => count >= minCount && !listed.has(word)).sort((a, b) => b[1] - a[1]);
    const room = Math.max(0, size - always.length);
    const chosen = kept.slice(0, room).map(([word]) => word);
    for (const word of chosen) listed.add(word);
    const filling = [...(bytePairs?.merges ?? [])].filter((token) => !listed.has(token)).slice(0, room - chosen.length);
    return new Vocabulary([...always, ...chosen, ...filling], bytePairs ? 'byte-pairs' : 'ascii');
  }

  /** Words, the special ones included. */
  get size(): number {
    return this.words.length;
  }

  /** Whether the word has an id. */
  has(word: string): boolean {
    return this.ids.has(word);
  }

  /** The ids of startseq, the words and endseq. A longer caption is cut to `maxLength` ids that still end with endseq. */
  encode(words: readonly string[], maxLength: number): number[] {
    const ids = words.slice(0, maxLength - 2).map((word) => (SPECIAL_WORDS.includes(word) ? UNKNOWN : (this.ids.get(word) ?? UNKNOWN)));
    return [START, ...ids, END];
  }

  /** Ids as text; special words are written as they are. There are blanks between words; tokens have their own. */
  decode(ids: readonly number[]): string {
    const words = ids.map((id) => this.words[id] ?? '<unk>');
    if (this.rule !== 'byte-pairs') return words.join(' ');
    const texts: string[] = [];
    const run: string[] = [];
    for (const word of [...words, null]) {
      if (word !== null && !SPECIAL_WORDS.includes(word)) run.push(word);
      else texts.push(textOfTokens(run.splice(0)).trim(), word ?? '');
    }
    return texts.filter(Boolean).join(' ');
  }

  /** A word alone, for people. */
  word(id: number): string {
    return this.decode([id]);
  }

  /** The words of a generated caption that rewards and validation compare with `referenceWords`, special ones included. */
  scoredWords(ids: readonly number[]): string[] {
    return this.rule === 'byte-pairs' ? wordsOf(this.decode(ids), 'ptb') : ids.map((id) => this.words[id]);
  }

  /** The words of a caption that generated ones are compared with, split by the rule; with tokens, as scores define it. */
  referenceWords(caption: string): string[] {
    return wordsOf(caption, this.rule === 'byte-pairs' ? 'ptb' : this.rule);
  }
}
