// Additive attention, as additive_attention.wgsl with four numbers per load.
//
//   e[b, i] = Σ_a v[a] tanh(keys[b, i, a] + query[b, a])     (with RELU: max(0, …))
//   α[b] = softmax(e[b]);   context[b] = Σ_i α[b, i] values[b, i]
//
// Shapes as there, A and D multiples of 4. One workgroup owns one picture. A load costs software drivers far more than a
// multiply-add, and a load of four little more than one. Each exponential is taken once, by the lane that owns the region, and
// passes through workgroup memory.
const LANES: u32 = 64u;

override RELU: bool = false;
override REGIONS: u32 = 64u; // @launch: P, for the size of workgroup memory

struct Params {
  regions: u32,
  keys_width: u32,
  values_width: u32,
  query_start: u32,
  context_start: u32,
  alpha_start: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<vec4f>;
@group(0) @binding(1) var<storage, read> query: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> values: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> context: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> alpha: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> weight: array<f32, REGIONS>;

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// tanh, or with RELU the rectifier.
fn squash(x: vec4f) -> vec4f {
  if (RELU) {
    return select(max(x, vec4f()), x, is_nan(x));
  }
  return select(tanh(clamp(x, vec4f(-10.0), vec4f(10.0))), x, is_nan(x));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let b = group.x;
  let a4_count = params.keys_width / 4u;
  let d4_count = params.values_width / 4u;
  let query_at = params.query_start / 4u + b * a4_count;
  for (var i = local.x; i < params.regions; i += LANES) {
    let keys_at = (b * params.regions + i) * a4_count;
    var scores = vec4f();
    for (var a = 0u; a < a4_count; a++) {
      scores += v[a] * squash(keys[keys_at + a] + query[query_at + a]);
    }
    weight[i] = (scores.x + scores.y) + (scores.z + scores.w);
  }
  workgroupBarrier();
  var largest = -3.4028234e38;
  for (var i = 0u; i < params.regions; i++) {
    largest = max(largest, weight[i]);
  }
  workgroupBarrier();
  for (var i = local.x; i < params.regions; i += LANES) {
    let distance = weight[i] - largest;
    weight[i] = select(exp(distance), distance, is_nan(vec4f(distance)).x); // SwiftShader's exp of a NaN is infinite
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < params.regions; i++) {
    sum += weight[i];
  }
  for (var i = local.x; i < params.regions; i += LANES) {
    alpha[params.alpha_start + b * params.regions + i] = weight[i] / sum;
  }
  for (var d = local.x; d < d4_count; d += LANES) {
    var total = vec4f();
    for (var i = 0u; i < params.regions; i++) {
      total += weight[i] * values[(b * params.regions + i) * d4_count + d];
    }
    context[params.context_start / 4u + b * d4_count + d] = total / sum;
  }
}
