// Gradient of scaled dot-product attention by the queries, the plain form: one invocation owns one query.
//
//   p[i, j] = exp(s[i, j] − m[i]) / l[i];   ds[i, j] = p[i, j] (Σ_e dy[i, e] v[j, e] − Δ[i]);   dq[i] = scale Σ_j ds[i, j] k[j]
//
// q, k, v, mask as in scaled_dot_product.wgsl;  dy [B · H, T, E];  rows [B · H, T]: (m, 1 / l, Δ, 0) of scaled_dot_product_rows.wgsl;
// dq [B · H, T, D]. The weights are computed again from the scores, so the forward pass need not store them (Dao and others 2022).
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
}

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read> rows: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> dq: array<f32>;
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
  let out = row * params.width;
  for (var d = 0u; d < params.width; d++) {
    dq[out + d] = 0.0;
  }
  let known = rows[row];
  if (known.y == 0.0 && !is_nan(known.y)) {
    return; // its result is 0, whatever the operands
  }
  for (var j = 0u; j < seen_by(i); j++) {
    let key = z * params.keys + j;
    let p = exp_or_nan(score(z, i, j) - known.x) * known.y;
    var dp = 0.0;
    for (var e = 0u; e < params.values_width; e++) {
      dp += dy[row * params.values_width + e] * v[key * params.values_width + e];
    }
    let ds = params.scale * p * (dp - known.z);
    for (var d = 0u; d < params.width; d++) {
      dq[out + d] += ds * k[key * params.width + d];
    }
  }
}
