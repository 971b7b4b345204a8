// Draws one token per row by the Gumbel trick: argmax_j (x[j] / T + g_j), g_j = −log(−log u_j), is a draw from softmax(x / T).
//
//   token[r] ~ softmax(x[r] / T), among the k likeliest (top-k) and the likeliest that make up p together (top-p);
//   log_prob[r] = x[r, token[r]]
//
// x [rows, n], log-probabilities; token, log_prob [rows]. The bounds of top-k and top-p are found by bisection on the
// log-probability, so nothing is sorted. Tokens that tie with the last one allowed are allowed. A row with a NaN gives its first.
// u is PCG4D keyed by (seed, step, stream, r · n + j), the bits of dropout.wgsl. One invocation owns one row. There is no
// gradient: a choice is flat everywhere.
struct Params {
  rows: u32,
  n: u32,
  skip_below: u32, // ids below this one are never taken (special tokens)
  k: u32, // 0: no bound
  p: f32, // 1: no bound
  temperature: f32,
  seed: u32,
  step: u32,
  stream: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> token: array<u32>;
@group(0) @binding(2) var<storage, read_write> log_prob: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

const LEAST = -1e4;

fn pcg4d(key: vec4u) -> vec4u {
  var v = key * 1664525u + 1013904223u;
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  v = v ^ (v >> vec4u(16u));
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  return v;
}

// How many tokens reach the bound, and which probability they have together after the temperature (unnormalized).
fn above(base: u32, bound: f32, largest: f32) -> vec2f {
  var sum = vec2f();
  for (var j = params.skip_below; j < params.n; j++) {
    let value = x[base + j];
    if (value >= bound) {
      sum += vec2f(1.0, exp((value - largest) / params.temperature));
    }
  }
  return sum;
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 8u;
  if (row >= params.rows) {
    return;
  }
  let base = row * params.n;
  var largest = LEAST;
  var nan_at = 0xffffffffu;
  for (var j = params.skip_below; j < params.n; j++) {
    let value = x[base + j];
    largest = max(largest, value);
    nan_at = select(nan_at, min(nan_at, j), is_nan(value));
  }
  var bound = LEAST;
  if (params.k > 0u) {
    var high = largest;
    for (var i = 0u; i < 48u; i++) {
      let middle = 0.5 * (bound + high);
      if (above(base, middle, largest).x >= f32(params.k)) {
        bound = middle;
      } else {
        high = middle;
      }
    }
  }
  if (params.p < 1.0) {
    let wanted = params.p * above(base, bound, largest).y; // of what top-k leaves
    var high = largest;
    for (var i = 0u; i < 48u; i++) {
      let middle = 0.5 * (bound + high);
      if (above(base, middle, largest).y >= wanted) {
        bound = middle;
      } else {
        high = middle;
      }
    }
  }
  var best = -3.4028234e38;
  var best_token = params.skip_below;
  for (var j = params.skip_below; j < params.n; j++) {
    let value = x[base + j];
    if (value >= bound) {
      let bits = pcg4d(vec4u(params.seed, params.step, params.stream, base + j)).x >> 8u;
      let u = (f32(bits) + 0.5) / 16777216.0;
      let key = value / params.temperature - log(-log(u));
      if (key > best) {
        best = key;
        best_token = j;
      }
    }
  }
  best_token = select(best_token, nan_at, nan_at < params.n);
  token[row] = best_token;
  log_prob[row] = x[base + best_token];
}
