// Adam and AdamW over every parameter that shares a buffer: one read and one write of each quantity.
//
//   g ← g · min(1, max_norm / (norm + 1e-6))   when max_norm > 0
//   g ← g + weight_decay p   (coupled: Adam)      or      p ← p − rate · weight_decay p   (decoupled: AdamW)
//   m ← β1 m + (1 − β1) g;   v ← β2 v + (1 − β2) g²;   p ← p − rate / correction1 · m / (√(v / correction2) + eps)
//
// p, g, m, v [count] as vec4, padded storages; norm [1], the global gradient norm. One invocation owns one vec4.
// correction1 = 1 − β1^t and correction2 = 1 − β2^t. Kingma and Ba 2015; Loshchilov and Hutter 2019.
struct Params {
  count4: u32,
  rate: f32,
  beta1: f32,
  beta2: f32,
  one_minus_beta1: f32, // 1 − β1 and 1 − β2, from the host: float32 would lose their digits
  one_minus_beta2: f32,
  eps: f32,
  correction1: f32,
  correction2: f32,
  weight_decay: f32,
  decoupled: u32,
  max_norm: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<vec4f>;
@group(0) @binding(1) var<storage, read> g: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(4) var<storage, read> norm: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count4) {
    return;
  }
  var parameter = p[i];
  var gradient = g[i];
  if (params.max_norm > 0.0) {
    let factor = params.max_norm / (norm[0] + 1e-6);
    gradient *= select(min(1.0, factor), factor, is_nan(factor));
  }
  if (params.decoupled != 0u) {
    parameter -= params.rate * params.weight_decay * parameter;
  } else {
    gradient += params.weight_decay * parameter;
  }
  let first = params.beta1 * m[i] + params.one_minus_beta1 * gradient;
  let second = params.beta2 * v[i] + params.one_minus_beta2 * gradient * gradient;
  m[i] = first;
  v[i] = second;
  p[i] = parameter - params.rate / params.correction1 * first / (sqrt(second / params.correction2) + params.eps);
}
