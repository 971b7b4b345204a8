// Unpooling, step 2: each place of the result takes its value, or 0. An index that is too large makes all of it NaN.
//
//   y[j] = x[owner[j] − 1], or 0 where owner[j] is 0
//
// x [values]; owner [count + 1] from unpool_owners.wgsl; y [count]. Gradient: unpool_grad.wgsl. One invocation owns one element of y.
struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> owner: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let j = id.x + id.y * groups.x * 64u;
  if (j >= params.count) {
    return;
  }
  let owned = owner[j];
  var value = 0.0;
  if (owned != 0u) {
    value = x[owned - 1u];
  }
  var nan = 0x7fc00000u;
  y[j] = select(value, bitcast<f32>(nan), owner[params.count] != 0u);
}
