/** The tokenizer of the Penn Treebank, as coco-caption applies it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { captionTokens, ptbTokens } from '../src/metrics/ptb.ts';
import { fixture, hasFixtures } from './coco_caption.ts';

test.each([
  ['contractions', "A man's riding a bike, isn't he?", "a man 's riding a bike is n't he"],
  ['hyphens', "A 10-year-old boy can't ride a bike.", "a 10-year-old boy ca n't ride a bike"],
  ['prices, times and abbreviations', 'It costs $5.00 at 3:30 p.m. on Main St. and 5,000 more', 'it costs $ 5.00 at 3:30 p.m. on main st. and 5,000 more'],
  ['slang and brackets', 'gonna (cannot) go', 'gon na -lrb- can not -rrb- go'],
  ['dashes and semicolons', 'Two dogs -- one brown; one white -- play!', 'two dogs one brown one white play'],
  ['accents and a new line', 'línea única\nde texto', 'línea única de texto'],
])('the tokenizer, on %s', (_, text, tokens) => {
  expect(captionTokens(text).join(' ')).toBe(tokens);
});

test('the tokenizer takes any text: nothing is lost but spaces, and tokens hold none', () => {
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

// 200,000 of "%" took 27 s, and of "mr." 14 s, as each character began a search for an address; "!" overflowed the stack.
test.each([
  ['%', 300_000],
  ['a%', 300_000],
  ['mr.', 100_000],
  ['!', 300_000],
  ['"', 300_000],
  ['a', 1],
  ['漢', 1],
  ['a-', 2],
])('the tokenizer takes time by the length, on %j again and again', (unit, tokens) => {
  expect(ptbTokens(unit.repeat(300_000 / unit.length))).toHaveLength(tokens);
});

test('an address is one token, wherever it stands', () => {
  expect(ptbTokens('%% me@a.b %%you@c.d %@ $5.they@e.f')).toEqual(['%', '%', 'me@a.b', '%%you@c.d', '%', '@', '$', '5', '.they@e.f']);
});

test('a caption of more than a million characters is refused', () => {
  expect(captionTokens('a '.repeat(500_000))).toHaveLength(500_000);
  expect(() => captionTokens('a'.repeat(1_000_001))).toThrow('a caption has at most 1,000,000 characters, got 1,000,001');
});

test.skipIf(!hasFixtures)('the tokenizer, on 2,500 captions', () => {
  const list: { caption: string; ptb: string }[] = fixture('ptb_tokens.json');
  const wrong = list.filter(({ caption, ptb }) => captionTokens(caption).join(' ') !== ptb);
  expect(wrong.length).toBeLessThanOrEqual(list.length / 1000);
  for (const { text, raw, tokens } of fixture('small.json').ptb) {
    expect(captionTokens(text).join(' '), text).toBe(tokens);
    expect(ptbTokens(text).join(' '), text).toBe(raw);
  }
});
