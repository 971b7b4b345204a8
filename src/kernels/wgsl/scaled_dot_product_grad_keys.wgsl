// Gradient of scaled dot-product attention by keys and values, the plain form: one invocation owns one key and its value.
//
//   dk[j] = scale Σ_i ds[i, j] q[i];   dv[j] = Σ_i p[i, j] dy[i]         p, ds as in scaled_dot_product_grad_query.wgsl
//
// q, k, v, mask, dy, rows as there;  dk [B · H, S, D];  dv [B · H, S, E].
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
@group(0) @binding(6) var<storage, read_write> dk: array<f32>;
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;
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
  let key = id.x + id.y * groups.x * 64u;
  if (key >= params.batch * params.keys) {
    return;
  }
  let z = key / params.keys;
  let j = key % params.keys;
  for (var d = 0u; d < params.width; d++) {
    dk[key * params.width + d] = 0.0;
  }
  for (var e = 0u; e < params.values_width; e++) {
    dv[key * params.values_width + e] = 0.0;
  }
  for (var i = 0u; i < params.queries; i++) {
    let row = z * params.queries + i;
    let known = rows[row];
    if (j >= seen_by(i) || (known.y == 0.0 && !is_nan(known.y))) {
      continue;
    }
    let p = exp_or_nan(score(z, i, j) - known.x) * known.y;
    var dp = 0.0;
    for (var e = 0u; e < params.values_width; e++) {
      let above = dy[row * params.values_width + e];
      dp += above * v[key * params.values_width + e];
      dv[key * params.values_width + e] += p * above;
    }
    let ds = params.scale * p * (dp - known.z);
    for (var d = 0u; d < params.width; d++) {
      dk[key * params.width + d] += ds * q[row * params.width + d];
    }
  }
}
