/**
 * Byte-level byte-pair encoding (Sennrich and others 2016; Radford and others 2019), as GPT-2 splits text into tokens. A text becomes
 * bytes of UTF-8, and the pair of neighbors that was merged first in training is merged, until no pair is known. Every text has tokens.
 *
 * A token is written as in `vocab.json`: a character for each byte, so that "Ġdog" is " dog". Uses no file and no host.
 */

/** Parts of a text that no merge crosses: contractions, and runs of letters, of digits, of other characters, with a space before them. */
const PARTS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** The character of each byte: itself if it is seen in print, else one from U+0100 on. */
const CHARACTERS: readonly string[] = (() => {
  const seen = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
  let hidden = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(seen(byte) ? byte : 256 + hidden++));
})();
const BYTES: ReadonlyMap<string, number> = new Map(CHARACTERS.map((character, byte) => [character, byte]));

/** The tokens of the single bytes, in GPT-2's order: those that are seen in print come first. */
export const BYTE_TOKENS: readonly string[] = [...CHARACTERS].sort();

/** No character stands for two bytes, so a token that holds another character is none. */
export const isToken = (token: string): boolean => token !== '' && [...token].every((character) => BYTES.has(character));

/** The text of tokens in a row. Bytes that are no UTF-8 become U+FFFD. */
export function textOfTokens(tokens: readonly string[]): string {
  return new TextDecoder().decode(Uint8Array.from([...tokens.join('')], (character) => BYTES.get(character) ?? 0x3f));
}

/** A caption's text as the tokens' model has seen texts: blanks are single, and none stands before a mark that ends a sentence. */
export const asWritten = (caption: string): string =>
  caption
    .replace(/\s+/gu, ' ')
    .replace(/ ([.,!?;:])/g, '$1')
    .trim();

/** No text part of a caption is longer; merging takes the square of it. */
const LONGEST_PART = 1024;

/** The merges of a tokenizer. */
export class BytePairs {
  /** The place of a merge in the list, by its two parts with a space between them. */
  private readonly ranks: Map<string, number>;
  /** The two parts of a token, as it was merged first. */
  private readonly parts = new Map<string, readonly [string, string]>();
  private readonly known = new Map<string, readonly string[]>();

  /** `merges` has the pairs in the order of training. */
  constructor(merges: readonly (readonly [string, string])[]) {
    this.ranks = new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
    for (const pair of merges) if (!this.parts.has(pair.join(''))) this.parts.set(pair.join(''), pair);
  }

  /** The tokens that are merged of others, those that were merged first in front: which are the more frequent ones. */
  get merges(): Iterable<string> {
    return this.parts.keys();
  }

  /** The tokens of a text. */
  tokens(text: string): string[] {
    const parts = text.match(PARTS) ?? [];
    return parts.flatMap((part) => {
      const found = this.known.get(part);
      if (found) return found;
      const merged = [...part].length > LONGEST_PART ? [...part].flatMap((character) => this.merged(character)) : this.merged(part);
      this.known.set(part, merged);
      return merged;
    });
  }

  private merged(part: string): string[] {
    const tokens = Array.from(new TextEncoder().encode(part), (byte) => CHARACTERS[byte]);
    for (;;) {
      let [best, at] = [Number.POSITIVE_INFINITY, -1];
      for (let i = 0; i + 1 < tokens.length; i++) {
        const rank = this.ranks.get(`${tokens[i]} ${tokens[i + 1]}`) ?? Number.POSITIVE_INFINITY;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return tokens;
      tokens.splice(at, 2, tokens[at] + tokens[at + 1]);
    }
  }

  /** The token, or the parts that it was merged from where it is not allowed, and theirs; single bytes always are. */
  within(token: string, isAllowed: (token: string) => boolean): string[] {
    const parts = this.parts.get(token);
    return !parts || isAllowed(token) ? [token] : parts.flatMap((part) => this.within(part, isAllowed));
  }
}
