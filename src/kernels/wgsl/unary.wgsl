// Elementwise y = f(x): the one expression of a row of the unary table stands in for f.
//
// x, y [count], read as vec4: storages are padded to 16 bytes, so the last vector may run over harmlessly. A NaN stays a NaN.
// One invocation owns one vec4. Gradient: unary_grad.wgsl. Functions that WGSL lacks: unary_special.wgsl.
struct Params {
  count4: u32, // vec4 elements
  alpha: f32, // a row's own constants (leaky slope, exponent, …)
  beta: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

fn f(x: vec4f, alpha: f32, beta: f32) -> vec4f {
  return x * alpha; // @expression f
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count4) {
    let value = x[i];
    y[i] = select(f(value, params.alpha, params.beta), value, is_nan(value));
  }
}
