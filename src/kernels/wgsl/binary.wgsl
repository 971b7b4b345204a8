// Elementwise c = f(a, b) for operands of the same shape; binary_broadcast.wgsl is the one for all others.
//
// a, b, c  [count] as vec4 (padded storages). One invocation owns one vec4.
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

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count4) {
    c[i] = f(a_in[i], b_in[i]);
  }
}
