// Exercise 1: a map with a guard.
//
//   y_i ← alpha x_i + beta y_i,   i = 0 … count − 1
//
// One invocation owns one number. Workgroups have 64 invocations, and there are count / 64 of them, rounded up. So the last ones
// have more invocations than there are numbers: those must not write.
// @grid count/64
struct Params {
  count: u32,
  alpha: f32,
  beta: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u; // more than 65,535 workgroups go in rows of them
  // @hole: if i is one of the numbers, write y[i]
  if (i < params.count) {
    y[i] = params.alpha * x[i] + params.beta * y[i];
  }
  // @end
}
