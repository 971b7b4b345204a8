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

interface Match {
  /** Positions of the word in hypothesis and reference. */
  hypothesis: number;
  reference: number;
  module: number;
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

export function meteorOf(s: readonly MeteorStatistics[]): number {
  const sum = (value: (each: MeteorStatistics) => number) => s.reduce((total, each) => total + value(each), 0);
  const precision = sum(({ matched }) => matched[0]) / sum(({ lengths }) => lengths[0]);
  const recall = sum(({ matched }) => matched[1]) / sum(({ lengths }) => lengths[1]);
  if (!(precision > 0 && recall > 0)) return 0;
  const [matches, chunks] = [sum((each) => each.matches), sum((each) => each.chunks)];
  const identical = chunks === 1 && matches === sum(({ words }) => words[0]) && matches === sum(({ words }) => words[1]);
  const fragmentation = identical ? 0 : chunks / matches;
  return (1 / ((1 - ALPHA) / precision + ALPHA / recall)) * (1 - GAMMA * fragmentation ** BETA);
}

interface Path {
  chosen: (Match | null)[];
  used: Set<number>;
  exact: number;
  chunks: number;
  distance: number;
  /** The position after the last match in the hypothesis, or −1 if no chunk is open. */
  open: number;
}

const better = (a: Path, b: Path) => b.exact - a.exact || a.chunks - b.chunks || a.distance - b.distance;

/** The path with a match, or none, for the next position of the reference. */
function extend(path: Path, match: Match | null): Path {
  const closes = path.open !== -1 && match?.hypothesis !== path.open;
  return {
    chosen: [...path.chosen, match],
    used: match ? new Set(path.used).add(match.hypothesis) : path.used,
    exact: path.exact + (match?.module === 0 ? 2 : 0),
    chunks: path.chunks + (closes ? 1 : 0),
    distance: path.distance,
    open: match ? match.hypothesis + 1 : -1,
  };
}

/**
 * The best alignment, searched from left to right over the reference. `candidates` are the matches of each position. As in
 * METEOR, only exact matches count in the search, and a match's distance goes to the paths made after it at the same position.
 */
function align(candidates: readonly (readonly Match[])[], hypothesisLength: number): (Match | null)[] {
  const coverage = new Array<number>(hypothesisLength).fill(0);
  for (const { hypothesis } of candidates.flat()) coverage[hypothesis]++;
  const certain = candidates.map((list) => (list.length === 1 && coverage[list[0].hypothesis] === 1 ? list[0] : null));
  const taken = new Set(certain.flatMap((match) => (match ? [match.hypothesis] : [])));
  let paths: Path[] = [{ chosen: [], used: taken, exact: 0, chunks: 0, distance: 0, open: -1 }];
  candidates.forEach((list, place) => {
    const next: Path[] = [];
    for (const path of paths.sort(better).slice(0, BEAM)) {
      const sure = certain[place];
      if (sure) {
        const grown = extend(path, sure);
        grown.distance += Math.abs(place - sure.hypothesis);
        next.push(grown);
        continue;
      }
      let { distance } = path;
      for (const match of list) {
        if (path.used.has(match.hypothesis)) continue;
        next.push({ ...extend(path, match), distance });
        distance += Math.abs(place - match.hypothesis);
      }
      next.push({ ...extend(path, null), distance });
    }
    paths = next;
  });
  for (const path of paths) if (path.open !== -1) path.chunks++;
  return paths.sort(better)[0].chosen;
}

function chunksOf(alignment: readonly (Match | null)[]): number {
  let chunks = 0;
  let next = -1;
  for (const match of alignment) {
    if (match && match.hypothesis !== next) chunks++;
    next = match ? match.hypothesis + 1 : -1;
  }
  return chunks;
}

const weightOf = (word: string) => (METEOR_FUNCTION_WORDS.has(word) ? 1 - DELTA : DELTA);
const weightedLength = (words: readonly string[]) => words.reduce((sum, word) => sum + weightOf(word), 0);

export class Meteor {
  /** The modules that run, in order. */
  readonly modules: readonly string[];
  private readonly stems = new Map<string, string>();

  constructor(private readonly wordNet: WordNet | null) {
    this.modules = wordNet ? ['exact', 'stem', 'synonym'] : ['exact', 'stem'];
  }

  private stem(word: string): string {
    const known = this.stems.get(word);
    if (known !== undefined) return known;
    const stem = stemmer.stem(word);
    this.stems.set(word, stem);
    return stem;
  }

  private synonyms(a: string, b: string): boolean {
    if (!this.wordNet) return false;
    const other = this.wordNet.synsetsOf(b);
    for (const synset of this.wordNet.synsetsOf(a)) if (other.has(synset)) return true;
    return false;
  }

  private statistics(hypothesis: readonly string[], reference: readonly string[]): MeteorStatistics {
    const same = hypothesis.length === reference.length && hypothesis.every((word, i) => word === reference[i]);
    const tests: ((a: string, b: string) => boolean)[] = [
      (a, b) => a === b,
      (a, b) => a !== b && this.stem(a) === this.stem(b),
      (a, b) => a !== b && this.synonyms(a, b),
    ];
    const candidates = reference.map((word, place) =>
      tests
        .slice(0, same ? 1 : this.modules.length) // in identical sentences, other matches could only mislead the search
        .flatMap((test, module) => hypothesis.flatMap((own, i): Match[] => (test(own, word) ? [{ hypothesis: i, reference: place, module }] : []))),
    );
    const alignment = align(candidates, hypothesis.length);
    const matches = alignment.filter((match): match is Match => match !== null);
    const matched = (wordOf: (match: Match) => string) => matches.reduce((sum, match) => sum + MODULE_WEIGHTS[match.module] * weightOf(wordOf(match)), 0);
    return {
      matched: [matched((match) => hypothesis[match.hypothesis]), matched((match) => reference[match.reference])],
      lengths: [weightedLength(hypothesis), weightedLength(reference)],
      matches: matches.length,
      words: [hypothesis.length, reference.length],
      chunks: chunksOf(alignment),
    };
  }

  /** Scores candidates[i] against references[i], as lists of words. `statistics` are those of each caption's best reference. */
  score(
    candidates: readonly (readonly string[])[],
    references: readonly (readonly (readonly string[])[])[],
  ): { corpus: number; perImage: number[]; statistics: MeteorStatistics[] } {
    const statistics = candidates.map((words, i) => {
      const hypothesis = meteorWords(words);
      const all = references[i].map((reference) => this.statistics(hypothesis, meteorWords(reference)));
      return all.reduce((best, each) => (meteorOf([each]) > meteorOf([best]) ? each : best));
    });
    return { corpus: meteorOf(statistics), perImage: statistics.map((each) => meteorOf([each])), statistics };
  }
}
