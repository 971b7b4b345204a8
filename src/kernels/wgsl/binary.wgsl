// Elementwise c = f(a, b) for operands of the same shape; binary_broadcast.wgsl serves all others.
//
// a, b, c [count] as vec4, padded storages; a NaN of either gives a NaN. One invocation owns one vec4.
struct Params {
  count4: u32,
}

@group(0) @binding(0) var<storage, read> a_in: array<vec4f>;
@group(0) @binding(1) var<storage, read> b_in: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

fn f(a: vec4f, b: vec4f) -> vec4f {
  return a + b; // @expression f
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count4) {
    let a = a_in[i];
    let b = b_in[i];
    let value = select(f(a, b), b, is_nan(b));
    c[i] = select(value, a, is_nan(a));
  }
}
