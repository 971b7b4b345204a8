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

/** A count that is made one by one, and keeps only its first examples. */
export class Tally implements Counted {
  count = 0;
  readonly examples: string[] = [];

  add(example: string): void {
    this.count++;
    if (this.examples.length < MOST_EXAMPLES) this.examples.push(example);
  }
}
