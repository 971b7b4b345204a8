/** Describes the attention maps of a caption in three numbers, and tells whether attention is dead: the same map for every word. */

export interface AttentionReport {
  /** Mean entropy of the maps, divided by that of a uniform map: 0 for a single region, 1 for equal weights. */
  entropy: number;
  /** Share of the picture that was seen: the mean over regions of the sum of their weights, at most 1 each. */
  coverage: number;
  /** Mean share of a map that moves from one word to the next: 0 if the map stays the same, 1 if none of it stays. */
  change: number;
  dead: boolean;
}

/** Below this `change`, maps differ only by rounding and noise. */
const DEAD_CHANGE = 0.01;

/** The report of a caption's maps: one map per word, each P weights that sum to 1. */
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
