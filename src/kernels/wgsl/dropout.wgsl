// Inverted dropout with counter-based random numbers; its own gradient, since seed, step and stream name the mask.
//
//   y[i] = x[i] / (1 − rate) where uniform(seed, step, stream, i) ≥ rate or x[i] is a NaN, else 0
//
// x, y [count]. The generator is PCG4D (Jarzynski and Olano, JCGT 9(3), 2020), the same bits as src/random.ts. Its first word
// serves element i, so any element can be drawn alone. One invocation owns one element.
struct Params {
  count: u32,
  seed: u32,
  step: u32,
  stream: u32,
  rate: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

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

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let uniform_value = f32(pcg4d(vec4u(params.seed, params.step, params.stream, i)).x >> 8u) / 16777216.0;
  let value = x[i] / (1.0 - params.rate);
  y[i] = select(0.0, value, uniform_value >= params.rate || is_nan(value));
}
