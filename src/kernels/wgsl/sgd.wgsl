// Stochastic gradient descent with momentum, over every parameter that shares a buffer.
//
//   g ← g · min(1, max_norm / (norm + 1e-6))   when max_norm > 0;   g ← g + weight_decay p
//   m ← momentum m + g;   p ← p − rate m
//
// p, g, m [count] as vec4, padded storages; norm [1], the global gradient norm. One invocation owns one vec4.
struct Params {
  count4: u32,
  rate: f32,
  momentum: f32,
  weight_decay: f32,
  max_norm: f32,
}

@group(0) @binding(0) var<storage, read_write> p: array<vec4f>;
@group(0) @binding(1) var<storage, read> g: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(3) var<storage, read> norm: array<f32>;
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
  var gradient = g[i];
  if (params.max_norm > 0.0) {
    let factor = params.max_norm / (norm[0] + 1e-6);
    gradient *= select(min(1.0, factor), factor, is_nan(factor));
  }
  let velocity = params.momentum * m[i] + gradient + params.weight_decay * p[i];
  m[i] = velocity;
  p[i] = p[i] - params.rate * velocity;
}
