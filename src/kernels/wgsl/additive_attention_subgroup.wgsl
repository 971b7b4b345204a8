// Additive attention by subgroups: one subgroup, which is a workgroup, owns one picture. Keys and values are read as texels.
//
//   e[b, i] = Σ_a v[a] tanh(keys[b, i, a] + query[b, a])     (with RELU: max(0, …))
//   α[b] = softmax(e[b]);   context[b] = Σ_i α[b, i] values[b, i]
//
// Shapes as in additive_attention.wgsl; A and D are multiples of 4, and A is at most 4 WIDTH PER_LANE. The lanes share the
// columns a, so v and query are loaded once per picture, not once per region. Keys and values stay the same through all steps
// of a sequence, so they are copied into textures once (src/gpu/texels.ts). tanh x = 1 − 2 / (1 + exp 2x) takes one
// exponential, where the built-in takes two.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const PER_LANE: u32 = 4u; // @tune 1 2 4 8 16 32

override RELU: bool = false;
override REGIONS: u32 = 64u; // @launch: P, for the size of workgroup memory

struct Params {
  regions: u32,
  keys_width: u32,
  values_width: u32,
  query_start: u32,
  context_start: u32,
  alpha_start: u32,
  keys_row: u32, // vec4 of a region
  keys_row_mask: u32,
  keys_row_shift: u32,
  keys_x_mask: u32,
  keys_x_shift: u32,
  values_row: u32, // vec4 of a region
  values_row_mask: u32,
  values_row_shift: u32,
  values_x_mask: u32,
  values_x_shift: u32,
}

@group(0) @binding(0) var keys: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var<storage, read> query: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var values: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var<storage, read_write> context: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> alpha: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> weight: array<f32, REGIONS>;

// Vec4 `column` of a region, counted through the pictures (src/gpu/texels.ts has the two layouts).
fn key_at(region: u32, column: u32) -> vec4f {
  let x = (region & params.keys_row_mask) * params.keys_row + column;
  return textureLoad(keys, vec2u(x & params.keys_x_mask, (region >> params.keys_row_shift) + (x >> params.keys_x_shift)));
}

fn value_at(region: u32, column: u32) -> vec4f {
  let x = (region & params.values_row_mask) * params.values_row + column;
  return textureLoad(values, vec2u(x & params.values_x_mask, (region >> params.values_row_shift) + (x >> params.values_x_shift)));
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// tanh, or with RELU the rectifier.
fn squash(x: vec4f) -> vec4f {
  if (RELU) {
    return select(max(x, vec4f()), x, is_nan(x));
  }
  return select(1.0 - 2.0 / (1.0 + exp(2.0 * x)), x, is_nan(x));
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let b = group.x;
  let a4_count = params.keys_width / 4u;
  let d4_count = params.values_width / 4u;
  var own_query: array<vec4f, PER_LANE>;
  var own_v: array<vec4f, PER_LANE>;
  for (var k = 0u; k < PER_LANE; k++) { // @unroll
    let a = min(k * WIDTH + lane, a4_count - 1u);
    own_query[k] = query[params.query_start / 4u + b * a4_count + a];
    own_v[k] = select(vec4f(), v[a], vec4<bool>(k * WIDTH + lane < a4_count)); // columns beyond the last count nothing
  }
  var largest = -3.4028234e38;
  for (var i = 0u; i < params.regions; i++) {
    var scores = vec4f();
    for (var k = 0u; k < PER_LANE; k++) { // @unroll
      let key = key_at(b * params.regions + i, min(k * WIDTH + lane, a4_count - 1u));
      scores += own_v[k] * squash(key + own_query[k]);
    }
    let score = subgroupAdd((scores.x + scores.y) + (scores.z + scores.w));
    largest = max(largest, score);
    if (lane == 0u) {
      weight[i] = score;
    }
  }
  workgroupBarrier();
  var part = 0.0;
  for (var i = lane; i < params.regions; i += WIDTH) {
    let distance = weight[i] - largest;
    let share = select(exp(distance), distance, is_nan(vec4f(distance)).x); // SwiftShader's exp of a NaN is infinite
    weight[i] = share;
    part += share;
  }
  let sum = subgroupAdd(part);
  workgroupBarrier();
  for (var i = lane; i < params.regions; i += WIDTH) {
    alpha[params.alpha_start + b * params.regions + i] = weight[i] / sum;
  }
  for (var d = lane; d < d4_count; d += WIDTH) {
    var total = vec4f();
    for (var i = 0u; i < params.regions; i++) {
      total += weight[i] * value_at(b * params.regions + i, d);
    }
    context[params.context_start / 4u + b * d4_count + d] = total / sum;
  }
}
