// Exercise 11, second part: from the scores into keys, query and v.
//
//   with u = tanh(K_i + q), or max(0, K_i + q) with RELU:
//   dK_i += de_i v u′;   dq = Σ_i de_i v u′;   dv_rows += Σ_i de_i u;      u′ = 1 − u², or [u > 0] with RELU
//
// keys, dkeys [B, P, A]; query, dquery, dv_rows [B, A]; v [A]; de [B, P]. One invocation owns one column a of one picture b and walks
// the regions. This runs once for each word t = T … 1. The same keys served all words, so dkeys and dv_rows gather (+=); dquery is that
// of one word (=).
override RELU: bool = false;

struct Params {
  count: u32, // B A
  regions: u32, // P
  keys_width: u32, // A
  query_start: u32, // of query and dquery
  alpha_start: u32, // of de
}

@group(0) @binding(0) var<storage, read> keys: array<f32>;
@group(0) @binding(1) var<storage, read> query: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> de: array<f32>;
@group(0) @binding(4) var<storage, read_write> dkeys: array<f32>;
@group(0) @binding(5) var<storage, read_write> dquery: array<f32>;
@group(0) @binding(6) var<storage, read_write> dv_rows: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

fn squash(x: f32) -> f32 {
  return select(tanh(clamp(x, -10.0, 10.0)), max(x, 0.0), RELU);
}

fn slope(u: f32) -> f32 {
  return select(1.0 - u * u, select(0.0, 1.0, u > 0.0), RELU);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u; // b A + a
  if (index >= params.count) {
    return;
  }
  let b = index / params.keys_width;
  let a = index % params.keys_width;
  var dq = 0.0;
  var dv = 0.0;
  // @hole: walk the regions: add to dkeys, to dq and to dv
  for (var i = 0u; i < params.regions; i++) {
    let at = (b * params.regions + i) * params.keys_width + a;
    let u = squash(keys[at] + query[params.query_start + index]);
    let d = de[params.alpha_start + b * params.regions + i];
    let dk = d * v[a] * slope(u);
    dkeys[at] += dk;
    dq += dk;
    dv += d * u;
  }
  // @end
  // @hole: write dquery, and add to dv_rows
  dquery[params.query_start + index] = dq;
  dv_rows[index] += dv;
  // @end
}
