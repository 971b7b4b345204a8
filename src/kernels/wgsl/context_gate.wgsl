// The scalar gate on the attention's context (Xu and others 2015, section 4.2.1): β = σ(h · w + b),  gated = β context.
//
// hidden [B, H] at hidden_start (the state before the step), w [H], b [1]; context, gated [B, D] at context_start; beta [B] at
// beta_start. One workgroup owns one picture; its lanes share the dot product. Gradient: context_gate_grad.wgsl.
const LANES: u32 = 64u;

struct Params {
  hidden: u32,
  width: u32,
  hidden_start: u32,
  context_start: u32,
  beta_start: u32,
}

@group(0) @binding(0) var<storage, read> hidden: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> context: array<f32>;
@group(0) @binding(4) var<storage, read_write> gated: array<f32>;
@group(0) @binding(5) var<storage, read_write> beta: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> partial: array<f32, LANES>;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  var sum = 0.0;
  for (var j = local.x; j < params.hidden; j += LANES) {
    sum += hidden[params.hidden_start + group.x * params.hidden + j] * w[j];
  }
  partial[local.x] = sum;
  workgroupBarrier();
  sum = b[0];
  for (var j = 0u; j < LANES; j++) {
    sum += partial[j];
  }
  let value = select(1.0 / (1.0 + exp(-sum)), sum, is_nan(sum));
  if (local.x == 0u) {
    beta[params.beta_start + group.x] = value;
  }
  for (var d = local.x; d < params.width; d += LANES) {
    let at = params.context_start + group.x * params.width + d;
    gated[at] = value * context[at];
  }
}
