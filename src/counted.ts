/** Nothing is dropped without a count: how many things something is true of, with the first ones as examples, for text and JSON. */

export interface Counted {
  count: number;
  examples: string[];
}

const MOST_EXAMPLES = 3;

/** A count with its first examples. */
export const counted = (list: readonly (string | number)[]): Counted => ({ count: list.length, examples: list.slice(0, MOST_EXAMPLES).map(String) });

/** The examples of a count, as text in brackets; nothing where there are none. */
export const examplesOf = ({ count, examples }: Counted): string =>
  examples.length === 0 ? '' : ` (${examples.join(', ')}${count > examples.length ? ', …' : ''})`;
