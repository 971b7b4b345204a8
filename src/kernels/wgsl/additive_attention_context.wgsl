// Additive attention over several workgroups a picture, step 2: from the scores to the weights and the context. Step 1:
// additive_attention_scores.wgsl.
//
//   α[b] = softmax(e[b]);   context[b] = Σ_i α[b, i] values[b, i]
//
// scores e [B, P], values [B, P, D]; context [B, D], alpha [B, P]. D is a multiple of 4, and the outputs have a start, as in
// additive_attention.wgsl. A workgroup owns LANES vec4 of one picture's context. Each takes the softmax over the P scores again;
// the first writes it.
const LANES: u32 = 64u;

override REGIONS: u32 = 64u; // @launch: P, for the size of workgroup memory

struct Params {
  regions: u32,
  values_width: u32,
  context_start: u32,
  alpha_start: u32,
}

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read> values: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> context: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> alpha: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> weight: array<f32, REGIONS>;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let b = group.y;
  let first = b * params.regions;
  var largest = -3.4028234e38;
  for (var i = 0u; i < params.regions; i++) {
    largest = max(largest, scores[first + i]);
  }
  for (var i = local.x; i < params.regions; i += LANES) {
    let distance = scores[first + i] - largest;
    weight[i] = select(exp(distance), distance, is_nan(distance)); // SwiftShader's exp of a NaN is infinite
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < params.regions; i++) {
    sum += weight[i];
  }
  if (group.x == 0u) {
    for (var i = local.x; i < params.regions; i += LANES) {
      alpha[params.alpha_start + first + i] = weight[i] / sum;
    }
  }
  let d4_count = params.values_width / 4u;
  let d = group.x * LANES + local.x;
  if (d >= d4_count) {
    return;
  }
  var total = vec4f();
  for (var i = 0u; i < params.regions; i++) {
    total += weight[i] * values[(first + i) * d4_count + d];
  }
  context[params.context_start / 4u + b * d4_count + d] = total / sum;
}
