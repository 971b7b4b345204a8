// Elementwise y = 1 where x is of a kind that only its bits tell, else 0: the one place where a NaN gives a number.
//
// x, y [count], read as vec4. One invocation owns one vec4. There is no gradient: the result is flat.
struct Params {
  count4: u32, // vec4 elements
  alpha: f32, // a row's own constants
  beta: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

fn f(x: vec4u, alpha: f32, beta: f32) -> vec4<bool> {
  return (x & vec4u(0x7fffffffu)) > vec4u(0x7f800000u); // @expression f
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count4) {
    y[i] = select(vec4f(), vec4f(1.0), f(x[i], params.alpha, params.beta));
  }
}
