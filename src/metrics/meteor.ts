/**
 * METEOR 1.5 for English, rank task (Denkowski and Lavie 2014), as coco-caption calls it. It has the modules exact, stem
 * (Snowball English) and synonym (WordNet). The paraphrase table is not available, so reports name the modules that ran.
 *
 * A beam search aligns hypothesis and reference word by word. It prefers the most exact matches, then the fewest chunks (runs in
 * the same order in both), then the smallest distance. Function words count 1 − δ, others δ:
 *
 *   P, R = Σ w_module m / weighted length;   F = 1 / ((1 − α) / P + α / R);   score = F (1 − γ (chunks / matches)^β)
 *
 * A caption has the score of its best reference. The corpus has the score of the summed statistics.
 */
import { newStemmer } from 'snowball-stemmers';
import type { WordNet } from './wordnet.ts';

const [ALPHA, BETA, GAMMA, DELTA] = [0.85, 0.2, 0.6, 0.75];
/** Weights of exact, stem and synonym matches. */
const MODULE_WEIGHTS = [1, 0.6, 0.8];
const BEAM = 40;
/** Longer words are their own stems: the time of Snowball's rules for "y" grows with the square of the length. */
const LONGEST_STEMMED = 200;

/** METEOR's function words: English words with a relative frequency above one in a thousand, counted in news text. */
export const METEOR_FUNCTION_WORDS: ReadonlySet<string> = new Set(
  [
    'the a an this',
    'of to in for on with as at by from about after up over into',
    'and but or that than if when',
    'i he you it we they she his its their her who which what',
    "is was be has have are had were been s 's 't",
    'not no also more out all there so some other first last new one two can will would could said',
    'people year years time',
    ', . : ? ! $ " ’ “ ” ‘ — - -- \' ( ) -lrb- -rrb-',
  ].flatMap((line) => line.split(' ')),
);

const stemmer = newStemmer('english');

/** METEOR's option `-norm`: punctuation separates words and is dropped, except dots within words and commas within numbers. */
export function meteorWords(words: readonly string[]): string[] {
  return words
    .join(' ')
    .replace(/(?<![\p{L}\p{N}])\.|\.(?![\p{L}\p{N}])|(?<!\d),|,(?!\d)|[^\p{L}\p{M}\p{N}\s.,]/gu, ' ')
    .split(/\s+/)
    .filter(Boolean);
}

/** The statistics behind a score. Those of several captions are added. */
export interface MeteorStatistics {
  /** Weighted matches in hypothesis and reference, and their weighted lengths. */
  matched: [number, number];
  lengths: [number, number];
  matches: number;
  words: [number, number];
  chunks: number;
}

export function meteorOf(all: readonly MeteorStatistics[]): number {
  const matched = [0, 0];
  const lengths = [0, 0];
  const words = [0, 0];
  let [matches, chunks] = [0, 0];
  for (const each of all) {
    for (let side = 0; side < 2; side++) {
      matched[side] += each.matched[side];
      lengths[side] += each.lengths[side];
      words[side] += each.words[side];
    }
    matches += each.matches;
    chunks += each.chunks;
  }
  const [precision, recall] = [matched[0] / lengths[0], matched[1] / lengths[1]];
  if (!(precision > 0 && recall > 0)) return 0;
  // What is identical is not fragmented.
  const fragmentation = chunks === 1 && matches === words[0] && matches === words[1] ? 0 : chunks / matches;
  return (1 / ((1 - ALPHA) / precision + ALPHA / recall)) * (1 - GAMMA * fragmentation ** BETA);
}

/** What of the hypothesis a word of the reference may be matched with: positions, and the module of each. Both ascend. */
export interface Candidates {
  readonly positions: Int32Array;
  readonly modules: Uint8Array;
}

/** A pair of words in an alignment, by their positions. */
export interface Match {
  hypothesis: number;
  reference: number;
  module: number;
}

/** A partial alignment. Paths share the matches that they have in common. */
interface Path {
  /** The last match and those before it. */
  last: Link | null;
  /** A bit per position of the hypothesis, set where the path uses it. */
  used: Uint32Array;
  exact: number;
  chunks: number;
  distance: number;
  /** The position after the last match in the hypothesis, or −1 if no chunk is open. */
  open: number;
}

interface Link extends Match {
  readonly before: Link | null;
}

const better = (a: Path, b: Path) => b.exact - a.exact || a.chunks - b.chunks || a.distance - b.distance;

/** Takes a path in at its rank, behind its equals; a beam keeps the best `width`. Tells whether the path is among them. */
function offer(beam: Path[], width: number, path: Path): boolean {
  if (beam.length === width && better(path, beam[width - 1]) >= 0) return false;
  let rank = beam.length;
  while (rank > 0 && better(path, beam[rank - 1]) < 0) rank--;
  beam.splice(rank, 0, path);
  if (beam.length > width) beam.pop();
  return true;
}

/** The path with a match at the next place of the reference; at the last place, its chunk ends there. */
function extend({ last, used, exact, chunks, open }: Path, hypothesis: number, reference: number, module: number, distance: number, atEnd: boolean): Path {
  const closed = (open !== -1 && hypothesis !== open ? 1 : 0) + (atEnd ? 1 : 0);
  const link = { hypothesis, reference, module, before: last };
  return { last: link, used, exact: exact + (module === 0 ? 2 : 0), chunks: chunks + closed, distance, open: hypothesis + 1 };
}

/** The path without a match there. */
const skip = ({ last, used, exact, chunks, open }: Path, distance: number): Path => ({
  last,
  used,
  exact,
  chunks: chunks + (open === -1 ? 0 : 1),
  distance,
  open: -1,
});

const uses = (path: Path, position: number) => ((path.used[position >> 5] >>> (position & 31)) & 1) === 1;

/** Positions of the hypothesis that only one word of the reference may be matched with. */
function wantedOnce(candidates: readonly Candidates[], hypothesisLength: number): boolean[] {
  const wanted = new Array<number>(hypothesisLength).fill(0);
  for (const { positions } of candidates) for (const at of positions) wanted[at]++;
  return wanted.map((count) => count === 1);
}

/** What is left of a place's candidates when some paths, or all of them, use positions. */
interface Choices extends Candidates {
  /** The sum of the distances of those before each, and of all. */
  sums: Float64Array;
  /** Indices of those that some paths use. These are few, as good paths differ in few positions: so paths can share the sums. */
  disputed: number[];
}

function choicesOf({ positions, modules }: Candidates, place: number, paths: readonly Path[]): Choices {
  const [byAll, bySome] = [paths[0].used.slice(), paths[0].used.slice()];
  for (const { used } of paths)
    for (let i = 0; i < used.length; i++) {
      byAll[i] &= used[i];
      bySome[i] |= used[i];
    }
  const has = (set: Uint32Array, at: number) => (set[at >> 5] >>> (at & 31)) & 1;
  const left: Choices = {
    positions: new Int32Array(positions.length),
    modules: new Uint8Array(positions.length),
    sums: new Float64Array(positions.length + 1),
    disputed: [],
  };
  let count = 0;
  for (let i = 0; i < positions.length; i++) {
    const at = positions[i];
    if (has(byAll, at)) continue;
    if (has(bySome, at)) left.disputed.push(count);
    left.positions[count] = at;
    left.modules[count] = modules[i];
    left.sums[++count] = left.sums[count - 1] + Math.abs(place - at);
  }
  return { ...left, positions: left.positions.subarray(0, count), modules: left.modules.subarray(0, count) };
}

/**
 * The best alignment, searched from left to right over the reference; `candidates` are those of each of its places. As in METEOR,
 * only exact matches count in the search, and a match's distance goes to the paths made after it at the same place.
 *
 * Memory is (reference + hypothesis) × width. Time is reference × hypothesis, and × width only where paths use other positions.
 */
export function align(candidates: readonly Candidates[], hypothesisLength: number, width = BEAM): Match[] {
  const once = wantedOnce(candidates, hypothesisLength);
  let paths: Path[] = [{ last: null, used: new Uint32Array(Math.ceil(hypothesisLength / 32)), exact: 0, chunks: 0, distance: 0, open: -1 }];
  candidates.forEach((all, place) => {
    const atEnd = place === candidates.length - 1;
    const next: Path[] = [];
    const add = (path: Path, position: number, module: number, distance: number) => offer(next, width, extend(path, position, place, module, distance, atEnd));
    const [first] = all.positions;
    if (all.positions.length === 0 || (all.positions.length === 1 && once[first])) {
      for (const path of paths)
        if (first === undefined) offer(next, width, skip(path, path.distance));
        else add(path, first, all.modules[0], path.distance + Math.abs(place - first));
      paths = next;
      return;
    }
    const { positions, modules, sums, disputed } = choicesOf(all, place, paths);
    for (const path of paths) {
      const own = disputed.filter((i) => uses(path, positions[i]));
      /** The distance after the candidates before `end` that the path does not use. */
      const distanceAt = (end: number) => own.reduce((sum, i) => (i < end ? sum - Math.abs(place - positions[i]) : sum), path.distance + sums[end]);
      const grow = (i: number) => add(path, positions[i], modules[i], distanceAt(i));
      // A path's later matches are no better than its earlier ones, unless they go on with its chunk.
      let i = 0;
      for (let room = true; room && i < positions.length; i++) if (!uses(path, positions[i])) room = grow(i);
      if (path.open !== -1 && path.open < hypothesisLength && !uses(path, path.open))
        for (i = positions.indexOf(path.open, i); i !== -1; i = positions.indexOf(path.open, i + 1)) grow(i);
      offer(next, width, skip(path, distanceAt(positions.length)));
    }
    // Only what stays in the beam needs positions of its own.
    for (const path of next) {
      if (path.last?.reference !== place) continue;
      path.used = path.used.slice();
      path.used[path.last.hypothesis >> 5] |= 1 << (path.last.hypothesis & 31);
    }
    paths = next;
  });
  const alignment: Match[] = [];
  for (let link = paths[0].last; link; link = link.before) alignment.push(link);
  return alignment.reverse();
}

/** Runs of matches that follow each other in both sentences. */
function chunksOf(alignment: readonly Match[]): number {
  return alignment.filter(({ hypothesis, reference }, i) => {
    const before = alignment[i - 1];
    return !(before && before.reference === reference - 1 && before.hypothesis === hypothesis - 1);
  }).length;
}

const weightOf = (word: string) => (METEOR_FUNCTION_WORDS.has(word) ? 1 - DELTA : DELTA);
const weightedLength = (words: readonly string[]) => words.reduce((sum, word) => sum + weightOf(word), 0);

/** A candidate's words, and where they stand. */
interface Hypothesis {
  words: readonly string[];
  places: ReadonlyMap<string, number[]>;
  /** Different words by their stems and by the synsets that they are in. */
  byStem: ReadonlyMap<string, string[]>;
  bySynset: ReadonlyMap<number, string[]>;
}

function grouped<K, V>(pairs: readonly (readonly [K, V])[]): Map<K, V[]> {
  const groups = new Map<K, V[]>();
  for (const [key, value] of pairs) {
    const group = groups.get(key);
    if (group) group.push(value);
    else groups.set(key, [value]);
  }
  return groups;
}

export class Meteor {
  /** The modules that run, in order. */
  readonly modules: readonly string[];
  private readonly stems = new Map<string, string>();

  constructor(private readonly wordNet: WordNet | null) {
    this.modules = wordNet ? ['exact', 'stem', 'synonym'] : ['exact', 'stem'];
  }

  private stem(word: string): string {
    if (word.length > LONGEST_STEMMED) return word;
    const known = this.stems.get(word);
    if (known !== undefined) return known;
    const stem = stemmer.stem(word);
    this.stems.set(word, stem);
    return stem;
  }

  private synsetsOf(word: string): number[] {
    return this.wordNet ? [...this.wordNet.synsetsOf(word)] : [];
  }

  /** What matches each word of a reference. In identical sentences, other matches than exact ones could only mislead the search. */
  private candidates(hypothesis: Hypothesis, reference: readonly string[]): Candidates[] {
    const same = hypothesis.words.length === reference.length && hypothesis.words.every((word, i) => word === reference[i]);
    const found = new Map<string, Candidates>();
    return reference.map((word) => {
      const known = found.get(word);
      if (known) return known;
      const others = (words: Iterable<string>) =>
        [...new Set(words)].flatMap((other) => (other === word ? [] : (hypothesis.places.get(other) ?? []))).sort((a, b) => a - b);
      const byModule = [
        hypothesis.places.get(word) ?? [],
        ...(same
          ? []
          : [others(hypothesis.byStem.get(this.stem(word)) ?? []), others(this.synsetsOf(word).flatMap((set) => hypothesis.bySynset.get(set) ?? []))]),
      ];
      const made = { positions: Int32Array.from(byModule.flat()), modules: Uint8Array.from(byModule.flatMap((list, module) => list.map(() => module))) };
      found.set(word, made);
      return made;
    });
  }

  private hypothesis(words: readonly string[]): Hypothesis {
    const places = grouped(words.map((word, i) => [word, i] as const));
    const distinct = [...places.keys()];
    return {
      words,
      places,
      byStem: grouped(distinct.map((word) => [this.stem(word), word] as const)),
      bySynset: grouped(distinct.flatMap((word) => this.synsetsOf(word).map((set) => [set, word] as const))),
    };
  }

  private statistics(hypothesis: Hypothesis, reference: readonly string[]): MeteorStatistics {
    const alignment = align(this.candidates(hypothesis, reference), hypothesis.words.length);
    const matched = (wordOf: (match: Match) => string) => alignment.reduce((sum, match) => sum + MODULE_WEIGHTS[match.module] * weightOf(wordOf(match)), 0);
    return {
      matched: [matched((match) => hypothesis.words[match.hypothesis]), matched((match) => reference[match.reference])],
      lengths: [weightedLength(hypothesis.words), weightedLength(reference)],
      matches: alignment.length,
      words: [hypothesis.words.length, reference.length],
      chunks: chunksOf(alignment),
    };
  }

  /** Scores candidates[i] against references[i], as lists of words. `statistics` are those of each caption's best reference. */
  score(
    candidates: readonly (readonly string[])[],
    references: readonly (readonly (readonly string[])[])[],
  ): { corpus: number; perImage: number[]; statistics: MeteorStatistics[] } {
    const statistics = candidates.map((words, i) => {
      const hypothesis = this.hypothesis(meteorWords(words));
      const all = references[i].map((reference) => this.statistics(hypothesis, meteorWords(reference)));
      return all.reduce((best, each) => (meteorOf([each]) > meteorOf([best]) ? each : best));
    });
    return { corpus: meteorOf(statistics), perImage: statistics.map((each) => meteorOf([each])), statistics };
  }
}
