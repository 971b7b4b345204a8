// Gradient of additive attention to the scores over several workgroups a picture, step 1: each region's share of the mean. Step 2:
// additive_attention_shares_grad.wgsl.
//
//   dα[i] = dcontext · values[i] (+ dalpha[i]);    share[i] = α[i] dα[i]
//
// dcontext [B, D], values [B, P, D]; alpha and, when has_dalpha, dalpha [B, P]; shares [B, P]. D is a multiple of 4. Starts as in
// additive_attention_scores_grad.wgsl. A workgroup owns REGIONS regions of one picture. LANES lanes share the columns of a region,
// so neighbors load neighbors, and add up through a tree.
const LANES: u32 = 32u;
const REGIONS: u32 = 8u;

struct Params {
  regions: u32,
  values_width: u32,
  context_start: u32,
  alpha_start: u32,
  has_dalpha: u32,
}

@group(0) @binding(0) var<storage, read> dcontext: array<vec4f>;
@group(0) @binding(1) var<storage, read> values: array<vec4f>;
@group(0) @binding(2) var<storage, read> alpha: array<f32>;
@group(0) @binding(3) var<storage, read> dalpha: array<f32>;
@group(0) @binding(4) var<storage, read_write> shares: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> tree: array<f32, LANES * REGIONS>;

@compute @workgroup_size(LANES, REGIONS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let b = group.y;
  let i = group.x * REGIONS + local.y;
  let d4_count = params.values_width / 4u;
  let values_at = (b * params.regions + min(i, params.regions - 1u)) * d4_count;
  let context_at = params.context_start / 4u + b * d4_count;
  var sum = 0.0;
  for (var d = local.x; d < d4_count; d += LANES) {
    sum += dot(dcontext[context_at + d], values[values_at + d]);
  }
  let at = local.y * LANES + local.x;
  tree[at] = sum;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local.x < half) {
      tree[at] += tree[at + half];
    }
  }
  if (local.x == 0u && i < params.regions) {
    let place = b * params.regions + i;
    var gradient = tree[at];
    if (params.has_dalpha != 0u) {
      gradient += dalpha[params.alpha_start + place];
    }
    shares[place] = alpha[params.alpha_start + place] * gradient;
  }
}
