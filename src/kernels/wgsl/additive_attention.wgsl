// Additive (Bahdanau) attention of one step, fused: scores, softmax and context.
//
//   e[b, i] = Σ_a v[a] tanh(keys[b, i, a] + query[b, a])     (with RELU: max(0, …))
//   α[b] = softmax(e[b]);   context[b] = Σ_i α[b, i] values[b, i]           (Bahdanau, Cho and Bengio 2015)
//
// keys [B, P, A], query [B, A], v [A], values [B, P, D]; context [B, D], alpha [B, P]. Sequences live in one buffer per
// quantity, so query and outputs have a start. One workgroup owns one picture b. Its lanes first share the regions i, then the
// columns d; only P numbers pass through workgroup memory. Gradient: additive_attention_scores_grad.wgsl, then
// additive_attention_grad.wgsl.
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

@group(0) @binding(0) var<storage, read> keys: array<f32>;
@group(0) @binding(1) var<storage, read> query: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> values: array<f32>;
@group(0) @binding(4) var<storage, read_write> context: array<f32>;
@group(0) @binding(5) var<storage, read_write> alpha: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> weight: array<f32, REGIONS>;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// SwiftShader's exp of a NaN is infinite.
fn exp_or_nan(x: f32) -> f32 {
  return select(exp(x), x, is_nan(x));
}

// tanh, or with RELU the rectifier.
fn squash(x: f32) -> f32 {
  if (RELU) {
    return select(max(x, 0.0), x, is_nan(x));
  }
  return select(tanh(clamp(x, -10.0, 10.0)), x, is_nan(x));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let b = group.x;
  let query_at = params.query_start + b * params.keys_width;
  for (var i = local.x; i < params.regions; i += LANES) {
    let keys_at = (b * params.regions + i) * params.keys_width;
    var score = 0.0;
    for (var a = 0u; a < params.keys_width; a++) {
      score += v[a] * squash(keys[keys_at + a] + query[query_at + a]);
    }
    weight[i] = score;
  }
  workgroupBarrier();
  var largest = -3.4028234e38;
  for (var i = 0u; i < params.regions; i++) {
    largest = max(largest, weight[i]);
  }
  var sum = 0.0;
  for (var i = 0u; i < params.regions; i++) {
    sum += exp_or_nan(weight[i] - largest);
  }
  for (var i = local.x; i < params.regions; i += LANES) {
    alpha[params.alpha_start + b * params.regions + i] = exp(weight[i] - largest) / sum;
  }
  for (var d = local.x; d < params.values_width; d += LANES) {
    var total = 0.0;
    for (var i = 0u; i < params.regions; i++) {
      total += exp(weight[i] - largest) * values[(b * params.regions + i) * params.values_width + d];
    }
    context[params.context_start + b * params.values_width + d] = total / sum;
  }
}
