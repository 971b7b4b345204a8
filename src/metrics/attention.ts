/** What the maps of a caption are like, in three numbers, and whether attention is dead: one map whatever the word. */

export interface AttentionReport {
  /** Mean entropy of the maps over that of a uniform one: 0 a single place, 1 everywhere alike. */
  entropy: number;
  /** Mean over regions of what they were looked at in all, at most 1 each: the share of the picture that was seen. */
  coverage: number;
  /** Mean part of a map that moves from one word to the next: 0 the same map, 1 none of it stays. */
  change: number;
  dead: boolean;
}

/** Below this, maps of one word and the next are the same but for rounding and noise. */
const DEAD_CHANGE = 0.01;

/** maps: one per word, P weights that sum to 1. */
export function attentionReport(maps: readonly Float32Array[]): AttentionReport {
  if (maps.length === 0) return { entropy: 0, coverage: 0, change: 0, dead: false };
  const regions = maps[0].length;
  const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);
  const entropyOf = (map: Float32Array) => -sum(Array.from(map, (a) => (a > 0 ? a * Math.log(a) : 0))) / Math.log(regions);
  const moved = maps.slice(1).map((map, t) => sum(Array.from(map, (a, i) => Math.abs(a - maps[t][i]))) / 2);
  const change = moved.length > 0 ? sum(moved) / moved.length : 0;
  return {
    entropy: sum(maps.map(entropyOf)) / maps.length,
    coverage: sum(Array.from({ length: regions }, (_, i) => Math.min(1, sum(maps.map((map) => map[i]))))) / regions,
    change,
    dead: moved.length > 0 && change < DEAD_CHANGE,
  };
}
