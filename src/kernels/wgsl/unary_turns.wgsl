// Elementwise y = f(sin x, cos x) for angles of any size: WGSL promises sin and cos within one turn only.
//
//   x / 2π = turns + q / 4 + rest,  |rest| ≤ 1/8;   sin and cos of 2π rest are polynomials (Moshier's Cephes)
//
// x, y [count], read as vec4. A float32 is m 2^e, and of 1 / 2π only the bits behind e matter (Payne and Hanek 1983): so the rest
// is right to 2^-56 of a turn for every x. A NaN stays a NaN, an infinity becomes one. One invocation owns one vec4.
struct Params {
  count4: u32, // vec4 elements
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

// 1 / 2π: a whole part of 32 bits, and 224 bits of the fraction.
const TURN = array<u32, 8>(0u, 0x28be60dbu, 0x9391054au, 0x7f09d5f4u, 0x7d4d3770u, 0x36d8a566u, 0x4f10e410u, 0x7f9458eau);

// The upper half of a product of 64 bits; a is below 2^24.
fn upper_product(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let across = (a & 0xffffu) * (b >> 16u);
  let back = (a >> 16u) * (b & 0xffffu);
  let carry = ((low >> 16u) + (across & 0xffffu) + (back & 0xffffu)) >> 16u;
  return (a >> 16u) * (b >> 16u) + (across >> 16u) + (back >> 16u) + carry;
}

// 32 bits of 1 / 2π from a bit on.
fn turn_bits(bit: u32) -> u32 {
  let word = bit / 32u;
  let shift = bit % 32u;
  return (TURN[word] << shift) | ((TURN[word + 1u] >> 1u) >> (31u - shift));
}

// (sin, cos) of a number.
fn sin_cos(value: f32) -> vec2f {
  let bits = bitcast<u32>(value) & 0x7fffffffu;
  var quarter = 0u;
  var angle = bitcast<f32>(bits);
  if (bits > 0x3f490fdau) { // π / 4
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    let bit = (bits >> 23u) - 150u + 32u;
    let middle = turn_bits(bit + 32u);
    let last = upper_product(mantissa, turn_bits(bit + 64u));
    let fine = mantissa * middle + last;
    let turns = mantissa * turn_bits(bit) + upper_product(mantissa, middle) + u32(fine < last);
    quarter = (turns + 0x20000000u) >> 30u;
    let rest = f32(bitcast<i32>(turns - (quarter << 30u))) * 2.3283064365387e-10 + f32(fine) * 5.4210108624275e-20; // 2^-32, 2^-64
    angle = rest * 6.283185307179586;
  }
  let z = angle * angle;
  let s = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 0.16666654611) * z * angle + angle;
  let c = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0;
  let turned = select(vec2f(s, c), vec2f(c, -s), (quarter & 1u) == 1u);
  let both = select(turned, -turned, (quarter & 2u) == 2u);
  return vec2f(select(both.x, -both.x, value < 0.0), both.y);
}

fn f(s: vec4f, c: vec4f) -> vec4f {
  return s; // @expression f
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count4) {
    return;
  }
  let value = x[i];
  let one = sin_cos(value.x);
  let two = sin_cos(value.y);
  let three = sin_cos(value.z);
  let four = sin_cos(value.w);
  let result = f(vec4f(one.x, two.x, three.x, four.x), vec4f(one.y, two.y, three.y, four.y));
  // By the bits, because compilers take x != x for false. A word of all exponent bits is an infinity or a NaN.
  let bits = bitcast<vec4u>(value);
  let ends = (bits & vec4u(0x7f800000u)) == vec4u(0x7f800000u);
  y[i] = bitcast<vec4f>(select(bitcast<vec4u>(result), bits | vec4u(0x7fc00000u), ends));
}
