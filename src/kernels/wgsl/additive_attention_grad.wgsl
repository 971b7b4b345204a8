// Gradient of additive attention, step 2: from the scores to keys, query and v.
//
//   with t = tanh(keys[b, i, a] + query[b, a]), or with RELU max(0, …), whose slope stands for 1 − t²:
//   dkeys[b, i, a] += de[b, i] v[a] (1 − t²);   dquery[b, a] = Σ_i of the same;   dv_rows[b, a] += Σ_i de[b, i] t
//
// keys, dkeys [B, P, A]; query, dquery, dv_rows [B, A]; v [A]; de [B, P], from step 1. dkeys and dv_rows gather over the steps
// of a sequence, so they are cleared first. dv is the sum of dv_rows over b; dvalues is α ⊗ dcontext, one product over all steps.
// One invocation owns one (b, a) and walks the regions.
override RELU: bool = false;

struct Params {
  count: u32, // B A
  regions: u32,
  keys_width: u32,
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

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// tanh, or with RELU the rectifier; and its slope where it gives t.
fn squash(x: f32) -> f32 {
  if (RELU) {
    return select(max(x, 0.0), x, is_nan(x));
  }
  return select(tanh(clamp(x, -10.0, 10.0)), x, is_nan(x));
}

fn slope(t: f32) -> f32 {
  if (RELU) {
    return select(select(0.0, 1.0, t > 0.0), t, is_nan(t));
  }
  return 1.0 - t * t;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  if (index >= params.count) {
    return;
  }
  let b = index / params.keys_width;
  let a = index % params.keys_width;
  let own_query = query[params.query_start + index];
  let own_v = v[a];
  var dq = 0.0;
  var dv = 0.0;
  for (var i = 0u; i < params.regions; i++) {
    let at = (b * params.regions + i) * params.keys_width + a;
    let t = squash(keys[at] + own_query);
    let d = de[params.alpha_start + b * params.regions + i];
    let dk = d * own_v * slope(t);
    dkeys[at] += dk;
    dq += dk;
    dv += d * t;
  }
  dquery[params.query_start + index] = dq;
  dv_rows[index] += dv;
}
