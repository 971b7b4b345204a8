/** Words and their ids: the rules that split captions into words, the special words, the vocabulary. Uses no file and no host. */
import { GlimpseError } from '../errors.ts';
import { captionTokens } from '../metrics/ptb.ts';
import { withoutControls } from '../printable.ts';

export const WORD_RULES = ['ascii', 'ptb', 'unicode'] as const;
/** Old name of a rule → its name now. */
export const RENAMED_WORD_RULES = { seed: 'ascii' } as const;
/**
 * How a caption is split into words, all of them lower-case. `ascii` drops everything but letters a–z, digits and spaces
 * ("man's" becomes "mans"). `ptb` gives the tokens that scores are defined on ("man 's"). `unicode` keeps letters, marks and
 * digits of any script; everything else separates words.
 */
export type WordRule = (typeof WORD_RULES)[number];

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
export function wordsOf(caption: string, rule: WordRule): string[] {
  const text = withoutControls(caption);
  if (rule === 'ptb') return captionTokens(text);
  const lower = text.normalize('NFC').toLowerCase();
  return (rule === 'ascii' ? lower.replace(/[^a-z0-9\s]/g, '') : lower.replace(/[^\p{L}\p{M}\p{N}]+/gu, ' ')).split(/\s+/).filter(Boolean);
}

/** The first words of every vocabulary. Three of the special ids are below endseq's, so suppressing them is one comparison. */
export const SPECIAL_WORDS = ['<pad>', '<unk>', 'startseq', 'endseq'];
export const [PAD, UNKNOWN, START, END] = [0, 1, 2, 3];

/** Words and their ids: four special words, then the most frequent first. */
export class Vocabulary {
  private readonly ids: Map<string, number>;

  constructor(readonly words: readonly string[]) {
    if (SPECIAL_WORDS.some((word, i) => words[i] !== word)) throw new GlimpseError(`a vocabulary starts with ${SPECIAL_WORDS.join(', ')}`);
    this.ids = new Map(words.map((word, id) => [word, id]));
    if (this.ids.size !== words.length) throw new GlimpseError('the vocabulary lists a word twice');
  }

  /**
   * At most `size` words: the special ones, then the most frequent of the captions. A word must occur `minCount` times. Ties go
   * to the word that appears first.
   */
  static build(captions: Iterable<readonly string[]>, size: number, minCount: number): Vocabulary {
    const counts = new Map<string, number>();
    for (const words of captions) for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
    const kept = [...counts].filter(([word, count]) => count >= minCount && !SPECIAL_WORDS.includes(word)).sort((a, b) => b[1] - a[1]);
    return new Vocabulary([...SPECIAL_WORDS, ...kept.slice(0, Math.max(0, size - SPECIAL_WORDS.length)).map(([word]) => word)]);
  }

  /** Words, the special ones included. */
  get size(): number {
    return this.words.length;
  }

  /** The ids of startseq, the words and endseq. A longer caption is cut to `maxLength` ids that still end with endseq. */
  encode(words: readonly string[], maxLength: number): number[] {
    const ids = words.slice(0, maxLength - 2).map((word) => (SPECIAL_WORDS.includes(word) ? UNKNOWN : (this.ids.get(word) ?? UNKNOWN)));
    return [START, ...ids, END];
  }

  /** Ids as words with blanks between them; special words are written as they are. */
  decode(ids: readonly number[]): string {
    return ids.map((id) => this.words[id] ?? '<unk>').join(' ');
  }
}
