/**
 * The tokenizer that caption scores are defined on: Stanford's PTBTokenizer 3.4.1 with `-preserveLines -lowerCase`, as
 * coco-caption calls it, and coco-caption's list of punctuation to drop. It is a list of rules; the first that matches counts.
 */
import { GlimpseError } from '../errors.ts';

/** Longer captions would overflow the stack of regular expressions (at some millions of characters, by the host). */
const MOST_CHARACTERS = 1_000_000;

/** Punctuation to drop. The original list also has brackets, but in upper case, so they never match the lower-case tokens. */
const DROPPED = new Set(["''", "'", '``', '`', '.', '?', '!', ',', ':', '-', '--', '...', ';']);

const BRACKETS: Record<string, string> = { '(': '-lrb-', ')': '-rrb-', '[': '-lsb-', ']': '-rsb-', '{': '-lcb-', '}': '-rcb-' };

/** Abbreviations that keep their dot, wherever they stand. */
const TITLES =
  'mr|mrs|ms|dr|drs|prof|gen|col|sgt|capt|lt|rev|hon|sen|rep|gov|pres|maj|cmdr|st|ste|mt|ft|jr|sr|bros|ave|blvd|rd|vs|no|inc|ltd|corp|co|dept|est|etc|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec';

/** Words that are written as one and that the Treebank splits. */
const ASSIMILATED: Record<string, string[]> = {
  cannot: ['can', 'not'],
  gonna: ['gon', 'na'],
  gotta: ['got', 'ta'],
  wanna: ['wan', 'na'],
  lemme: ['lem', 'me'],
  gimme: ['gim', 'me'],
  "'tis": ["'t", 'is'],
  "'twas": ["'t", 'was'],
};

type Rule = readonly [RegExp, (text: string, match: RegExpExecArray, before: string, after: string) => string[]];

const word = String.raw`[\p{L}\p{M}\p{N}_]`;
const whole = (text: string): string[] => [text];

/** An address of e-mail, and the characters that may stand before its @. */
const ADDRESS = /[\p{L}\d._%+-]+@[\p{L}\d-]+(?:\.[\p{L}\d-]+)+/uy;
const BEFORE_AT = /[\p{L}\d._%+-]+/uy;

/** Tried in this order at each position; all are sticky. Of the text before and after, a rule sees two code units. */
const RULES: Rule[] = [
  [/https?:\/\/[^\s"<>]*[^\s"<>.,!?;:)\]']/uy, whole],
  [/www\.[^\s"<>]*[^\s"<>.,!?;:)\]']/uy, whole],
  [ADDRESS, whole],
  [/<[^<>\s]+>/uy, whole],
  [/'(?:tis|twas)\b/uy, (text) => ASSIMILATED[text]],
  [/(?:cannot|gonna|gotta|wanna|lemme|gimme)(?![\p{L}\d'-])/uy, (text) => ASSIMILATED[text]],
  [/'\d\ds?(?!\w)/uy, whole],
  [/(?:\p{L}+)(?=n['’]t(?!\p{L}))/uy, (text) => (text === '' ? [] : [text])],
  [/n['’]t(?!\p{L})/uy, () => ["n't"]],
  [/['’](?:s|m|d|ll|re|ve)(?!\p{L})/uy, (text) => [text.replace('’', "'")]],
  // w/ and w/o stand for words; other slashes stay inside words.
  [/w\/(?!o\b)/uy, () => ['w', '/']],
  [new RegExp(String.raw`(?:${TITLES})\.(?=\s+\S|${word})`, 'uy'), whole],
  // At the very end, only abbreviations that are hardly ever a word at the end of a sentence.
  [/(?:st|rd|ave|blvd|mt|jr|sr|mr|mrs|ms|dr|etc|inc|ltd|corp)\.$/uy, whole],
  [/(?:\p{L}\.){2,}/uy, whole],
  [/\p{L}\.$/uy, (text, _match, before) => (/\p{L}$/u.test(before) ? [text.slice(0, -1), '.'] : [text])],
  [/\p{L}\.(?=\s*\p{L})/uy, (text, _match, before) => (before === '' || /[\s"'(]$/.test(before) ? [text] : [text.slice(0, -1), '.'])],
  [/\$\d+(?:[.,]\d+)*/uy, (text) => ['$', text.slice(1)]],
  [/#(?=\d)/uy, () => ['#']],
  [/\d+(?:[.,:]\d+)+(?!\p{L})/uy, whole],
  [/\d+\/\d+(?!\p{L})/uy, whole],
  [/\.\d+/uy, whole],
  [new RegExp(String.raw`${word}+(?:(?:[-/&.]|['’](?!(?:s|m|d|ll|re|ve)(?!\p{L}))(?=\p{L}))${word}+)*`, 'uy'), (text) => [text.replaceAll('’', "'")]],
  [/\.{3,}|…/uy, () => ['...']],
  [/-{2,}|[–—]/uy, () => ['--']],
  [/"/uy, (_text, _match, before) => [before === '' || /[\s([{-]$/.test(before) ? '``' : "''"]],
  [/“/uy, () => ['``']],
  [/”/uy, () => ["''"]],
  [/``|''/uy, whole],
  [/['‘’`]/uy, (_text, _match, before, after) => [/^\S/.test(after) && (before === '' || /[\s([{"]$/.test(before)) ? '`' : "'"]],
  [/[()[\]{}]/uy, (text) => [BRACKETS[text]]],
  [/£/uy, () => ['#']],
  [/€/uy, () => ['$']],
  [/[!?]+/uy, (text) => [...text]],
  [/\S/uy, whole],
];

/** All tokens in lower case, punctuation included. A line break counts as a space. Throws a GlimpseError above a million characters. */
export function ptbTokens(caption: string): string[] {
  if (caption.length > MOST_CHARACTERS)
    throw new GlimpseError(`a caption has at most ${MOST_CHARACTERS.toLocaleString('en-US')} characters, got ${caption.length.toLocaleString('en-US')}`);
  const text = caption
    .replaceAll(/[\r\n]+/g, ' ')
    .toLowerCase()
    .trim();
  const tokens: string[] = [];
  let at = 0;
  let noAddress = 0; // No address begins before this. To look again from each character of "%%%…" would take quadratic time.
  while (at < text.length) {
    if (/\s/.test(text[at])) {
      at++;
      continue;
    }
    for (const [pattern, make] of RULES) {
      if (pattern === ADDRESS && at < noAddress) continue;
      pattern.lastIndex = at;
      const match = pattern.exec(text);
      if (pattern === ADDRESS && !match) {
        BEFORE_AT.lastIndex = at;
        BEFORE_AT.test(text);
        noAddress = BEFORE_AT.lastIndex;
      }
      if (!match || match[0] === '') continue;
      const end = at + match[0].length;
      for (const token of make(match[0], match, text.slice(Math.max(0, at - 2), at), text.slice(end, end + 2))) tokens.push(token);
      at = end;
      break;
    }
  }
  return tokens;
}

/** The tokens that scores use: those without punctuation. */
export function captionTokens(caption: string): string[] {
  return ptbTokens(caption).filter((token) => !DROPPED.has(token));
}

/** The name of the tokenizer, for reports of scores. */
export const TOKENIZER = 'PTB 3.4.1 rules, lower-case, coco-caption punctuation dropped';
