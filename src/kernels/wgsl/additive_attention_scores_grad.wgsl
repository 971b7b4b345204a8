// Gradient of additive attention, step 1: from the context and the attention weights to the scores.
//
//   dα[i] = dcontext · values[i] (+ dalpha[i]);    de = α (dα − Σ_i α dα)
//
// dcontext [B, D], values [B, P, D]; alpha, de and, when has_dalpha, dalpha [B, P]. Starts as in additive_attention.wgsl; de
// lies like alpha. One workgroup owns one picture; a lane owns regions.
const LANES: u32 = 64u;

override REGIONS: u32 = 64u; // @launch: P, for the size of workgroup memory

struct Params {
  regions: u32,
  values_width: u32,
  context_start: u32,
  alpha_start: u32,
  has_dalpha: u32,
}

@group(0) @binding(0) var<storage, read> dcontext: array<f32>;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read> alpha: array<f32>;
@group(0) @binding(3) var<storage, read> dalpha: array<f32>;
@group(0) @binding(4) var<storage, read_write> de: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> share: array<f32, REGIONS>; // α dα

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let b = group.x;
  let alpha_at = params.alpha_start + b * params.regions;
  for (var i = local.x; i < params.regions; i += LANES) {
    var d = 0.0;
    let values_at = (b * params.regions + i) * params.values_width;
    for (var j = 0u; j < params.values_width; j++) {
      d += dcontext[params.context_start + b * params.values_width + j] * values[values_at + j];
    }
    if (params.has_dalpha != 0u) {
      d += dalpha[alpha_at + i];
    }
    share[i] = alpha[alpha_at + i] * d;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < params.regions; i++) {
    sum += share[i];
  }
  for (var i = local.x; i < params.regions; i += LANES) {
    de[alpha_at + i] = share[i] - alpha[alpha_at + i] * sum;
  }
}
