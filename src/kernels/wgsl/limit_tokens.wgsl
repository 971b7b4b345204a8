// What decoding adds to log-probabilities before it chooses among them.
//
//   y[r, end] = −1e30                     while the caption is too short (block_end)
//   y[r, w]   = −1e30                     when w would complete a run of no_repeat words that the caption holds already
//   y[r, w]  −= diversity · #{earlier groups' hypotheses of the picture that took w at this step}   (Vijayakumar and others 2018)
//
// y [rows, n] holds a copy of the log-probabilities. words, parents [T, rows], of which the first `step` are there: a word, and
// the row of the step before that it continues. taken [groups, pictures, width], where pad (0) stands for nothing. Words from n on
// have no column to limit. One invocation owns one row. There is no gradient: a choice is flat everywhere.
const LONGEST: u32 = 128u;

struct Params {
  rows: u32,
  n: u32,
  step: u32,
  no_repeat: u32, // 0 allows all
  end: u32,
  block_end: u32,
  groups: u32, // earlier ones
  width: u32, // hypotheses of a group
  diversity: f32,
}

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read> parents: array<u32>;
@group(0) @binding(2) var<storage, read> taken: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

const NEVER = -1e30;

@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let row = id.x;
  if (row >= params.rows) {
    return;
  }
  let base = row * params.n;
  if (params.block_end != 0u) {
    y[base + params.end] = NEVER;
  }
  if (params.no_repeat > 0u && params.step >= params.no_repeat) {
    var caption: array<u32, LONGEST>;
    var at = row;
    for (var back = 0u; back < params.step; back++) {
      let t = params.step - 1u - back;
      caption[t] = words[t * params.rows + at];
      at = parents[t * params.rows + at];
    }
    let run = params.no_repeat - 1u; // the words before the one to come
    for (var first = 0u; first + run < params.step; first++) {
      var same = true;
      for (var i = 0u; i < run; i++) {
        same = same && caption[first + i] == caption[params.step - run + i];
      }
      if (same && caption[first + run] < params.n) {
        y[base + caption[first + run]] = NEVER;
      }
    }
  }
  let picture = row / params.width;
  for (var group = 0u; group < params.groups; group++) {
    for (var i = 0u; i < params.width; i++) {
      let word = taken[group * params.rows + picture * params.width + i];
      if (word != 0u && word < params.n) {
        y[base + word] -= params.diversity;
      }
    }
  }
}
