// Scaled dot-product attention (Vaswani and others 2017), the plain form: one invocation owns one query.
//
//   s[i, j] = scale Σ_d q[i, d] k[j, d] (+ mask[i, j]);   y[i] = Σ_j exp(s[i, j] − m[i]) v[j] / l[i];   m = max_j s,  l = Σ_j exp(s − m)
//
// q [B · H, T, D];  k [B · H, S, D];  v [B · H, S, E];  mask: any buffer without MASK;  y [B · H, T, E];  stats [B · H, T]: (m, l), kept
// if asked for. With CAUSAL, query i sees the keys up to i + S − T: the last query sees all. A query that sees no key, or whose
// scores are all −∞, gets zeros. The softmax is online (Milakov and Gimelshein 2018): when a larger score comes, sums so far are scaled
// down, so no row of scores is stored. Gradients: scaled_dot_product_grad_query.wgsl, scaled_dot_product_grad_keys.wgsl.
override MASK: bool = false;
override CAUSAL: bool = false;

struct Params {
  batch: u32, // B · H
  heads: u32, // H
  queries: u32, // T
  keys: u32, // S
  width: u32, // D, of queries and keys
  values_width: u32, // E
  scale: f32,
  mask_b: u32, // elements of the mask from one index of an axis to the next; 0 repeats
  mask_h: u32,
  mask_q: u32,
  mask_k: u32,
  keep: u32, // whether stats are kept
}

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec2f>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// SwiftShader's exp of a NaN is infinite.
fn exp_or_nan(x: f32) -> f32 {
  return select(exp(x), x, is_nan(x));
}

fn mask_at(z: u32, i: u32, j: u32) -> f32 {
  return mask[z / params.heads * params.mask_b + z % params.heads * params.mask_h + i * params.mask_q + j * params.mask_k];
}

// The score of query i and key j.
fn score(z: u32, i: u32, j: u32) -> f32 {
  let q_row = (z * params.queries + i) * params.width;
  let k_row = (z * params.keys + j) * params.width;
  var sum = 0.0;
  for (var d = 0u; d < params.width; d++) {
    sum += q[q_row + d] * k[k_row + d];
  }
  var value = sum * params.scale;
  if (MASK) {
    value += mask_at(z, i, j);
  }
  return value;
}

// Keys that query i sees, counted from the first.
fn seen_by(i: u32) -> u32 {
  if (!CAUSAL) {
    return params.keys;
  }
  let end = i + 1u + params.keys;
  return select(0u, min(end - params.queries, params.keys), end > params.queries);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.batch * params.queries) {
    return;
  }
  let z = row / params.queries;
  let i = row % params.queries;
  let out = row * params.values_width;
  for (var e = 0u; e < params.values_width; e++) {
    y[out + e] = 0.0;
  }
  var most = -3.4028234e38;
  var sum = 0.0;
  for (var j = 0u; j < seen_by(i); j++) {
    let s = score(z, i, j);
    let next = max(most, s);
    let shrink = exp(most - next);
    let weight = exp_or_nan(s - next);
    sum = sum * shrink + weight;
    most = next;
    let value = (z * params.keys + j) * params.values_width;
    for (var e = 0u; e < params.values_width; e++) {
      y[out + e] = y[out + e] * shrink + weight * v[value + e];
    }
  }
  let nothing = sum == 0.0 && !is_nan(sum);
  for (var e = 0u; e < params.values_width; e++) {
    y[out + e] = select(y[out + e] / sum, 0.0, nothing);
  }
  if (params.keep != 0u) {
    stats[row] = vec2f(most, sum);
  }
}
