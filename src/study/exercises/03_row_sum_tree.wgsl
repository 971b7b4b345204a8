// Exercise 3: a sum by a tree.
//
//   y[r, p] = scale · Σ_j x[r, j], j over piece p      KIND 1: of the squares; 2 and 3: the largest and the smallest instead of the sum
//
// x [outer, n], y [outer, pieces]. One workgroup owns one row, or a piece of `chunk` numbers of a long one. Its 64 lanes each combine
// every 64th number. Then they join: 32 lanes take a second partial result each, then 16, then 8, down to one. A lane must not read
// what another has not written yet: workgroupBarrier() makes all wait. All lanes must reach it, so it stands outside of the `if`.
// @like workgroup
override KIND: u32 = 0u;

const LANES: u32 = 64u;

struct Params {
  outer: u32,
  n: u32,
  pieces: u32,
  chunk: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> partial: array<f32, LANES>;

fn join(a: f32, b: f32) -> f32 {
  if (KIND == 2u) {
    return max(a, b);
  }
  if (KIND == 3u) {
    return min(a, b);
  }
  return a + b;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let owned = group.x + group.y * groups.x;
  let row = owned / params.pieces;
  let first = owned % params.pieces * params.chunk;
  let lane = local.x;
  if (row >= params.outer) {
    return; // the whole workgroup leaves, so no barrier waits for it
  }
  var acc = 0.0;
  if (KIND == 2u) {
    acc = -3.4028234e38;
  }
  if (KIND == 3u) {
    acc = 3.4028234e38;
  }
  for (var j = first + lane; j < min(first + params.chunk, params.n); j += LANES) {
    let value = x[row * params.n + j];
    acc = join(acc, select(value, value * value, KIND == 1u));
  }
  partial[lane] = acc;
  // @hole: halve the number of lanes that join until one is left; its result is partial[0]
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      partial[lane] = join(partial[lane], partial[lane + half]);
    }
  }
  // @end
  if (lane == 0u) {
    y[owned] = params.scale * partial[0];
  }
}
