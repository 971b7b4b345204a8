// y = alpha x + beta y in place: gradient accumulation (1, 1), running statistics (momentum, 1 − momentum).
//
// x, y [count] as vec4. What lies behind the last element is left as it is: sums over a buffer of many parameters read it.
// One invocation owns one vec4.
struct Params {
  count: u32,
  alpha: f32,
  beta: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (4u * i < params.count) {
    let inside = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.count);
    y[i] = select(y[i], params.alpha * x[i] + params.beta * y[i], inside);
  }
}
