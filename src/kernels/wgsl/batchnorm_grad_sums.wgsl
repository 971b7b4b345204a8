// Gradient of batch normalization, step 1: the two sums per channel and chunk that everything else is made of.
//
//   sum_dy[s, c] = Σ dy;  sum_dy_xhat[s, c] = Σ dy · x̂,   x̂ = (x − mean) / √(var + eps)
//
// Their sums over the chunks are dbeta and dgamma. Layouts as in batchnorm_partial.wgsl.
struct Params {
  channels: u32,
  inner: u32,
  n: u32,
  chunk: u32,
  pieces: u32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> variance: array<f32>;
@group(0) @binding(4) var<storage, read_write> sum_dy: array<f32>;
@group(0) @binding(5) var<storage, read_write> sum_dy_xhat: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  let c = index % params.channels;
  let piece = index / params.channels;
  if (piece >= params.pieces) {
    return;
  }
  let end = min(params.n, (piece + 1u) * params.chunk);
  let inverse = 1.0 / sqrt(variance[c] + params.eps);
  var plain = 0.0;
  var weighted = 0.0;
  for (var j = piece * params.chunk; j < end; j++) {
    let at = (j / params.inner * params.channels + c) * params.inner + j % params.inner;
    plain += dy[at];
    weighted += dy[at] * (x[at] - mean[c]) * inverse;
  }
  sum_dy[index] = plain;
  sum_dy_xhat[index] = weighted;
}
