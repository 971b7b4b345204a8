// Elementwise y = f(x) over functions that WGSL lacks, or promises with few digits: erf, logarithms, arcs.
//
// x, y [count], read as vec4, as in unary.wgsl; a NaN stays a NaN, and beyond the ends of a function there is a NaN. One
// invocation owns one vec4. Gradient: unary_grad.wgsl.
struct Params {
  count4: u32, // vec4 elements
  alpha: f32, // a row's own constants
  beta: f32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

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

// WGSL takes no infinity and no NaN as a constant.
fn infinity() -> vec4f {
  var bits = vec4u(0x7f800000u);
  return bitcast<vec4f>(bits);
}

fn not_a_number() -> vec4f {
  var bits = vec4u(0x7fc00000u);
  return bitcast<vec4f>(bits);
}

// The natural logarithm. SwiftShader's log is -88 at 0 and a number below.
fn ln(x: vec4f) -> vec4f {
  let inside = select(log(x), -infinity(), x == vec4f());
  return select(inside, not_a_number(), x < vec4f());
}

// ln(1 + x), near 0 by the series of 2 atanh(x / (2 + x)): there 1 + x would lose the digits of x.
fn log1p(x: vec4f) -> vec4f {
  let s = x / (2.0 + x);
  let z = s * s;
  let series = ((((z / 11.0 + 1.0 / 9.0) * z + 1.0 / 7.0) * z + 0.2) * z + 1.0 / 3.0) * z + 1.0;
  return select(ln(1.0 + x), 2.0 * s * series, abs(x) < vec4f(0.4));
}

// exp(x) - 1, near 0 by its series.
fn expm1(x: vec4f) -> vec4f {
  var series = 1.0 + x / 8.0;
  series = 1.0 + x / 7.0 * series;
  series = 1.0 + x / 6.0 * series;
  series = 1.0 + x / 5.0 * series;
  series = 1.0 + x / 4.0 * series;
  series = 1.0 + x / 3.0 * series;
  series = 1.0 + x / 2.0 * series;
  return select(exp(x) - 1.0, x * series, abs(x) < vec4f(0.5));
}

// Moshier's Cephes, atanf: the angle less 0, a quarter or a half of a right angle's double has a tangent below 0.42.
fn arc_tan(x: vec4f) -> vec4f {
  let a = abs(x);
  let high = a > vec4f(2.414213562);
  let middle = a > vec4f(0.4142135624);
  let t = select(select(a, (a - 1.0) / (a + 1.0), middle), -1.0 / a, high);
  let z = t * t;
  let p = ((8.05374449538e-2 * z - 0.138776856032) * z + 0.199777106478) * z - 0.333329491539;
  return sign(x) * (select(select(vec4f(), vec4f(0.7853981634), middle), vec4f(1.5707963268), high) + p * z * t + t);
}

// Cephes, asinf. Above 0.5 by the half angle.
fn arc_sin(x: vec4f) -> vec4f {
  let a = abs(x);
  let high = a > vec4f(0.5);
  let z = select(a * a, max(0.5 * (1.0 - a), vec4f()), high);
  let t = select(a, sqrt(z), high);
  let p = (((4.2163199048e-2 * z + 2.4181311049e-2) * z + 4.5470025998e-2) * z + 7.4953002686e-2) * z + 0.16666752422;
  let angle = p * z * t + t;
  return select(sign(x) * select(angle, 1.5707963268 - 2.0 * angle, high), not_a_number(), a > vec4f(1.0));
}

// From the half angle, so that an arc near 0 keeps its digits.
fn arc_cos(x: vec4f) -> vec4f {
  let a = abs(x);
  let angle = 2.0 * arc_sin(sqrt(max(0.5 - 0.5 * a, vec4f())));
  return select(select(angle, 3.1415926536 - angle, x < vec4f()), not_a_number(), a > vec4f(1.0));
}

fn sinh_exact(x: vec4f) -> vec4f {
  let a = abs(x);
  let t = expm1(a);
  return sign(x) * select(0.5 * (t + t / (t + 1.0)), exp(a - 0.6931471806), a > vec4f(9.0));
}

fn area_sinh(x: vec4f) -> vec4f {
  let a = abs(x);
  return sign(x) * select(log1p(a + a * a / (1.0 + sqrt(a * a + 1.0))), ln(a) + 0.6931471806, a > vec4f(1e9));
}

fn area_cosh(x: vec4f) -> vec4f {
  let t = x - 1.0;
  let inside = select(log1p(t + sqrt(2.0 * t + t * t)), ln(x) + 0.6931471806, x > vec4f(1e9));
  return select(inside, not_a_number(), x < vec4f(1.0));
}

fn area_tanh(x: vec4f) -> vec4f {
  let a = abs(x);
  let inside = select(log1p(2.0 * a / (1.0 - a)), infinity(), a == vec4f(1.0));
  return select(0.5 * sign(x) * inside, not_a_number(), a > vec4f(1.0));
}

fn f(x: vec4f, alpha: f32, beta: f32) -> vec4f {
  return erf(x); // @expression f
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
