// Gradient of additive attention to the scores over several workgroups a picture, step 2: through the softmax. Step 1:
// additive_attention_shares.wgsl.
//
//   de[i] = share[i] − α[i] Σ_j share[j]
//
// shares, alpha, de [B, P]; alpha and de have a start. One invocation owns one region.
struct Params {
  count: u32, // B P
  regions: u32,
  alpha_start: u32,
}

@group(0) @binding(0) var<storage, read> shares: array<f32>;
@group(0) @binding(1) var<storage, read> alpha: array<f32>;
@group(0) @binding(2) var<storage, read_write> de: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  if (index >= params.count) {
    return;
  }
  let first = index - index % params.regions;
  var sum = 0.0;
  for (var i = 0u; i < params.regions; i++) {
    sum += shares[first + i];
  }
  de[params.alpha_start + index] = shares[index] - alpha[params.alpha_start + index] * sum;
}
