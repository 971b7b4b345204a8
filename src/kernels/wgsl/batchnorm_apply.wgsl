// Batch normalization, step 3 of 3, and all of it in evaluation.
//
//   y = gamma (x − mean) / √(var + eps) + beta
//
// x, y [outer, C, inner]; mean, var, gamma, beta [C]. Statistics are the batch's in training, the running ones in evaluation.
// One invocation owns one element. Gradient: batchnorm_grad_sums.wgsl, then batchnorm_grad.wgsl.
struct Params {
  count: u32,
  channels: u32,
  inner: u32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> mean: array<f32>;
@group(0) @binding(2) var<storage, read> variance: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let c = i / params.inner % params.channels;
  y[i] = gamma[c] * (x[i] - mean[c]) / sqrt(variance[c] + params.eps) + beta[c];
}
