// Resampling along one axis: every place of the new axis is a weighted sum of places of the old one. A table says which.
//
//   y[o, i, j] = Σ over t from table[i] to table[i + 1] of weight[t] · x[o, source[t], j]      or `fill` where there is no t
//
// x [outer, n, inner], y [outer, size, inner]; table [size + 1 + 2·taps]: starts, then sources, then the bits of weights. The gradient
// is the same kernel with the transposed table. Terms are added by 32, then together, to keep the error small. One invocation owns
// one element of y.
struct Params {
  count: u32,
  n: u32,
  size: u32,
  inner: u32,
  taps: u32,
  fill: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  if (index >= params.count) {
    return;
  }
  let j = index % params.inner;
  let i = (index / params.inner) % params.size;
  let outer = index / params.inner / params.size;
  let first = table[i];
  let end = table[i + 1u];
  if (first == end) {
    y[index] = params.fill;
    return;
  }
  let sources = params.size + 1u;
  let weights = sources + params.taps;
  var sum = 0.0;
  for (var begin = first; begin < end; begin += 32u) {
    var part = 0.0;
    for (var t = begin; t < min(begin + 32u, end); t++) {
      part += bitcast<f32>(table[weights + t]) * x[(outer * params.n + table[sources + t]) * params.inner + j];
    }
    sum += part;
  }
  y[index] = sum;
}
