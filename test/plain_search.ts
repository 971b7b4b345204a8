/**
 * Decoding in plain loops, over any captioner in float64: greedy with limits, beam search and diverse beam search. What
 * Decoding finds on the GPU must be what these find.
 */
import { END, START } from '../src/data/words.ts';
import type { BeamOptions } from '../src/model/captioner/decoding.ts';
import { logSoftmax } from '../src/model/captioner/plain.ts';
import type { Prefix } from './plain_variants.ts';

/** Which words may come next, best first, by what each counts for the search. */
function continuations(logProbs: Float64Array, tokens: readonly number[], taken: readonly number[], o: BeamOptions): { word: number; value: number }[] {
  const { noRepeat = 0, diversity = 0 } = o;
  const before = tokens.slice(tokens.length - noRepeat + 1).join();
  const repeats = (word: number) =>
    noRepeat > 0 && tokens.some((own, i) => own === word && i >= noRepeat - 1 && tokens.slice(i - noRepeat + 1, i).join() === before);
  return Array.from(logProbs, (value, word) => ({ word, value: value - diversity * taken.filter((id) => id === word).length }))
    .filter(({ word }) => (!o.suppress || word >= END) && !repeats(word))
    .sort((a, b) => b.value - a.value || a.word - b.word);
}

/** The likeliest allowed word at each step, and the attention weights of each, endseq's included. */
export function greedySearch(start: Prefix, length: number, o: BeamOptions): { tokens: number[]; alpha: Float64Array[] } {
  const tokens: number[] = [];
  const alpha: Float64Array[] = [];
  for (let prefix = start; tokens.length < length; ) {
    const step = prefix.say(tokens.at(-1) ?? START);
    alpha.push(step.alpha);
    const early = tokens.length + 1 < (o.minLength ?? 0);
    const [{ word }] = continuations(logSoftmax(step.logits), tokens, [], o).filter((each) => !early || each.word !== END);
    if (word === END) break;
    tokens.push(word);
    prefix = step.after;
  }
  return { tokens, alpha };
}

/** Beam search as beam_select.wgsl has it, in groups that know what earlier ones took. */
export function beamSearch(start: Prefix, maxLength: number, o: BeamOptions): { tokens: number[]; score: number; logProb: number; ended: boolean }[] {
  const width = o.width / (o.groups ?? 1);
  const scoreOf = (logProb: number, length: number) =>
    o.penalty === 'average' ? logProb / length : o.penalty === 'wu' ? logProb / ((5 + length) / 6) ** o.alpha : logProb;
  const fresh = { tokens: [] as number[], sum: 0, logProb: 0, length: 0, prefix: start, word: 0 };
  const groups = Array.from({ length: o.groups ?? 1 }, () => [fresh]);
  for (let t = 1; t <= maxLength; t++) {
    const taken: number[] = [];
    groups.forEach((alive, g) => {
      const candidates: { hypothesis: typeof fresh; score: number }[] = [];
      for (const hypothesis of alive) {
        if (hypothesis.length > 0) {
          candidates.push({ hypothesis: { ...hypothesis, word: 0 }, score: scoreOf(hypothesis.sum, hypothesis.length) });
          continue;
        }
        const { logits, after } = hypothesis.prefix.say(hypothesis.tokens.at(-1) ?? START);
        const logProbs = logSoftmax(logits);
        for (const { word, value } of continuations(logProbs, hypothesis.tokens, taken, o).slice(0, width + 1)) {
          if (word === END && t < (o.minLength ?? 0)) continue;
          const [sum, logProb] = [hypothesis.sum + value, hypothesis.logProb + logProbs[word]];
          const tokens = word === END ? hypothesis.tokens : [...hypothesis.tokens, word];
          candidates.push({ hypothesis: { tokens, sum, logProb, length: word === END ? t : 0, prefix: after, word }, score: scoreOf(sum, t) });
        }
      }
      groups[g] = candidates
        .sort((a, b) => b.score - a.score)
        .slice(0, width)
        .map(({ hypothesis }) => hypothesis);
      taken.push(...groups[g].map(({ word }) => word).filter((word) => word !== 0));
    });
  }
  return groups
    .flat()
    .map(({ tokens, logProb, length }) => ({ tokens, logProb, score: scoreOf(logProb, length || maxLength), ended: length > 0 }))
    .sort((a, b) => b.score - a.score);
}
