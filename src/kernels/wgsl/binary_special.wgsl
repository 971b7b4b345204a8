// Elementwise c = f(a, b) with broadcasting, over functions that WGSL leaves undefined or inexact: powers and remainders.
//
// c is dense with `rank` axes of extents shape[]; a and b are read through strides, 0 along an axis that repeats. A NaN of either
// gives a NaN. One invocation owns one element.
struct Params {
  count: u32,
  rank: u32,
  shape: array<vec4<u32>, 2>,
  a_strides: array<vec4<u32>, 2>,
  b_strides: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<storage, read> a_in: array<f32>;
@group(0) @binding(1) var<storage, read> b_in: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

fn from_bits(value: u32) -> f32 {
  var bits = value; // WGSL takes no infinity and no NaN as a constant
  return bitcast<f32>(bits);
}

// log2 of the significand in √½ … √2, by the series of 2 atanh((s - 1) / (s + 1)) / ln 2.
fn log2_near_1(s: f32) -> f32 {
  let t = (s - 1.0) / (s + 1.0);
  let z = t * t;
  return 2.8853900818 * t * ((((z / 9.0 + 1.0 / 7.0) * z + 0.2) * z + 1.0 / 3.0) * z + 1.0);
}

// 2^x, of a whole part and a rest within ± ½, whose power is a polynomial.
fn exp2_of(whole: f32, rest: f32) -> f32 {
  let r = rest * 0.6931471806;
  let series = 1.0 + r * (1.0 + r / 2.0 * (1.0 + r / 3.0 * (1.0 + r / 4.0 * (1.0 + r / 5.0 * (1.0 + r / 6.0 * (1.0 + r / 7.0))))));
  let half = i32(clamp(whole, -300.0, 300.0)) / 2; // in two factors, so that both are normal numbers
  let other = i32(clamp(whole, -300.0, 300.0)) - half;
  return series * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(other + 127) << 23u);
}

// m^b for m ≥ 0. Small whole powers are products.
fn power_of_size(m: f32, b: f32) -> f32 {
  let inverse = b < 0.0;
  let size = abs(b);
  if (size == 0.0 || m == 1.0) {
    return 1.0;
  }
  if (size <= 16.0 && size == trunc(size)) {
    var product = 1.0;
    var square = m;
    for (var left = u32(size); left > 0u; left /= 2u) {
      product *= select(1.0, square, (left & 1u) == 1u);
      square *= square;
    }
    return select(product, 1.0 / product, inverse);
  }
  let bits = bitcast<u32>(m);
  if (bits < 0x800000u || bits >= 0x7f800000u || size > 3.4e38) {
    return select(0.0, from_bits(0x7f800000u), (m > 1.0) != inverse);
  }
  var exponent = i32(bits >> 23u) - 127;
  var significand = bitcast<f32>((bits & 0x7fffffu) | 0x3f800000u);
  if (significand > 1.41421356) {
    significand *= 0.5;
    exponent++;
  }
  let high = b * f32(exponent);
  let low = fma(b, f32(exponent), -high) + b * log2_near_1(significand);
  if (abs(high + low) > 300.0) {
    return select(0.0, from_bits(0x7f800000u), high + low > 0.0);
  }
  let whole = round(high + low);
  return exp2_of(whole, (high - whole) + low);
}

// a^b as C has it: a negative number takes whole powers only, 0 and infinities keep their signs for odd ones.
fn power(a: f32, b: f32) -> f32 {
  let size = power_of_size(abs(a), b);
  let is_odd = abs(b) < 16777216.0 && b == trunc(b) && (u32(abs(b)) & 1u) == 1u;
  if ((bitcast<u32>(a) >> 31u) == 0u) {
    return size;
  }
  if (a < 0.0 && abs(a) <= 3.4028234e38 && b != trunc(b)) {
    return from_bits(0x7fc00000u);
  }
  return select(size, -size, is_odd);
}

// The remainder with the sign of a, exactly: each step takes off the largest b 2^k that fits.
fn remainder(a: f32, b: f32) -> f32 {
  let divisor = abs(b);
  var left = abs(a);
  if (divisor == 0.0 || left > 3.4028234e38) {
    return from_bits(0x7fc00000u);
  }
  if (divisor <= 3.4028234e38) {
    while (left >= divisor) {
      let apart = i32(bitcast<u32>(left) >> 23u) - i32(bitcast<u32>(divisor) >> 23u);
      var part = divisor * bitcast<f32>(u32(min(apart, 126) + 127) << 23u);
      part = select(part, part * 0.5, part > left);
      left -= part;
    }
  }
  return select(left, -left, (bitcast<u32>(a) >> 31u) == 1u);
}

// The remainder with the sign of b, as Python has it.
fn modulus(a: f32, b: f32) -> f32 {
  let rest = remainder(a, b);
  return select(rest, rest + b, rest != 0.0 && (rest < 0.0) != (b < 0.0));
}

fn f(a: f32, b: f32) -> f32 {
  return power(a, b); // @expression f
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  var rest = i;
  var a_at = 0u;
  var b_at = 0u;
  for (var step = 1u; step <= params.rank; step++) {
    let axis = params.rank - step;
    let extent = params.shape[axis / 4u][axis % 4u];
    let index = rest % extent;
    rest /= extent;
    a_at += index * params.a_strides[axis / 4u][axis % 4u];
    b_at += index * params.b_strides[axis / 4u][axis % 4u];
  }
  let a = a_in[a_at];
  let b = b_in[b_at];
  let value = select(f(a, b), b, is_nan(b));
  c[i] = select(value, a, is_nan(a));
}
