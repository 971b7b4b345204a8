// Gradient of an elementwise y = f(x): dx = dy · f'(x), written with x, y or both, whichever is cheapest.
//
// x, y, dy, dx  [count] as vec4. A row that does not need x or y binds dy in its place.
struct Params {
  count4: u32,
  alpha: f32,
}

@group(0) @binding(0) var<storage, read> x_in: array<vec4f>;
@group(0) @binding(1) var<storage, read> y_in: array<vec4f>;
@group(0) @binding(2) var<storage, read> dy_in: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

fn g(x: vec4f, y: vec4f, dy: vec4f, alpha: f32) -> vec4f {
  return dy * alpha; // @expression g
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count4) {
    dx[i] = g(x_in[i], y_in[i], dy_in[i], params.alpha);
  }
}
