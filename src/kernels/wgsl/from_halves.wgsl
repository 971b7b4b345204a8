// Half-precision numbers (IEEE 754 binary16), two to a word, as float32: every one exactly.
//
// x u32 [ceil(count / 2)], the first number in the low bits; y f32 [count]. By whole numbers, because WGSL lets unpack2x16float turn
// a subnormal half into 0, although it is a normal float32. Needs no shader-f16. One invocation owns one word.
struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

fn from_half(half: u32) -> f32 {
  let magnitude = half & 0x7fffu;
  let normal = (magnitude << 13u) + 0x38000000u; // another bias of the exponent
  let infinite_or_nan = (magnitude << 13u) | 0x7f800000u;
  let subnormal = bitcast<u32>(f32(magnitude) * 5.9604645e-8); // 2^-24
  var bits = select(normal, infinite_or_nan, magnitude >= 0x7c00u);
  bits = select(bits, subnormal, magnitude < 0x400u);
  return bitcast<f32>(bits | ((half & 0x8000u) << 16u));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 64u;
  if (2u * at >= params.count) {
    return;
  }
  let word = x[at];
  y[2u * at] = from_half(word & 0xffffu);
  if (2u * at + 1u < params.count) {
    y[2u * at + 1u] = from_half(word >> 16u);
  }
}
