// y = alpha x + beta y in place: gradient accumulation (1, 1), running statistics (momentum, 1 − momentum).
//
// x, y  [count] as vec4 (padded storages). One invocation owns one vec4.
struct Params {
  count4: u32,
  alpha: f32,
  beta: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count4) {
    y[i] = params.alpha * x[i] + params.beta * y[i];
  }
}
