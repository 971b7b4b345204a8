import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { captionTokens, ptbTokens } from '../src/metrics/ptb.ts';

describe('the tokenizer', () => {
  test.each([
    ["A man's riding a bike, isn't he?", "a man 's riding a bike is n't he"],
    ["A 10-year-old boy can't ride a bike.", "a 10-year-old boy ca n't ride a bike"],
    ['It costs $5.00 at 3:30 p.m. on Main St. and 5,000 more', 'it costs $ 5.00 at 3:30 p.m. on main st. and 5,000 more'],
    ['gonna (cannot) go', 'gon na -lrb- can not -rrb- go'],
    ['Two dogs -- one brown; one white -- play!', 'two dogs one brown one white play'],
    ['línea única\nde texto', 'línea única de texto'],
  ])('%s', (text, tokens) => {
    expect(captionTokens(text).join(' ')).toBe(tokens);
  });

  test('takes any text: nothing is lost but spaces, and tokens hold none', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), (text) => {
        for (const token of ptbTokens(text)) expect(token).toMatch(/^\S+$/u);
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.stringMatching(/^[a-z]{2,8}$/), { maxLength: 12 }), (words) => {
        const plain = words.filter((word) => !['cannot', 'gonna', 'gotta', 'wanna', 'lemme', 'gimme'].includes(word));
        expect(captionTokens(plain.join(' '))).toEqual(plain);
      }),
    );
  });
});
