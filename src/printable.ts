/**
 * Text from files, names and checkpoints, made safe to show. A terminal obeys control characters, a page may turn its text around,
 * and an SVG with such a character is no XML. JSON keeps the text as it is.
 */

/** C0 and C1 controls, line separators, marks that turn the direction of text, what XML forbids, and halves of surrogate pairs. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff]/gu;
const ALL_BUT_BREAKS = new RegExp(`(?![\\n\\t])${UNPRINTABLE.source}`, 'gu');

/** The text on one line: each character that must not reach a terminal becomes U+FFFD, line feeds included. */
export const printable = (text: string): string => text.replace(UNPRINTABLE, '\ufffd');

/** As `printable`, for text whose line feeds and tabs are our own. */
export const printableLines = (text: string): string => text.replace(ALL_BUT_BREAKS, '\ufffd');

/** Control characters that are no white space, and marks that turn the direction of text: they belong to no word. */
const CONTROLS = /(?!\s)[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** The text without control characters that are no white space. */
export const withoutControls = (text: string): string => text.replace(CONTROLS, '');
