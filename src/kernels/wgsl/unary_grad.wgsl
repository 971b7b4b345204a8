// Gradient of an elementwise y = f(x): dx = dy · f'(x), written with x, y or both, whichever is cheapest.
//
// x, y, dy, dx [count] as vec4. A row that does not need x or y binds dy in its place. A NaN of any gives a NaN. One invocation
// owns one vec4.
struct Params {
  count4: u32,
  alpha: f32,
  beta: f32,
}

@group(0) @binding(0) var<storage, read> x_in: array<vec4f>;
@group(0) @binding(1) var<storage, read> y_in: array<vec4f>;
@group(0) @binding(2) var<storage, read> dy_in: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

fn g(x: vec4f, y: vec4f, dy: vec4f, alpha: f32, beta: f32) -> vec4f {
  return dy * alpha; // @expression g
}

// The error function, from a quotient of polynomials, to 4.2e-7. Beyond 3.92 it is 1 in float32.
fn erf(x: vec4f) -> vec4f {
  let a = clamp(x, vec4f(-4.0), vec4f(4.0));
  let z = a * a;
  var p = -2.72614225801306e-10 * z + 2.77068142495902e-8;
  p = ((p * z - 2.10102402082508e-6) * z - 5.69250639462346e-5) * z - 7.34990630326855e-4;
  p = (p * z - 2.95459980854025e-3) * z - 1.60960333262415e-2;
  var q = -1.45660718464996e-5 * z - 2.13374055278905e-4;
  q = ((q * z - 1.68282697438203e-3) * z - 7.37332916720468e-3) * z - 1.42647390514189e-2;
  return select(a * p / q, sign(x), abs(x) > vec4f(3.92));
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count4) {
    let x = x_in[i];
    let y = y_in[i];
    let dy = dy_in[i];
    var value = g(x, y, dy, params.alpha, params.beta);
    value = select(value, dy, is_nan(dy));
    value = select(value, y, is_nan(y));
    dx[i] = select(value, x, is_nan(x));
  }
}
