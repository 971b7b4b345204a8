// Gradient of batch normalization, step 2: for the input.
//
//   training:    dx = gamma / √(var + eps) · (dy − dbeta / n − x̂ · dgamma / n),   x̂ = (x − mean) / √(var + eps)
//   evaluation:  dx = gamma / √(var + eps) · dy          (the statistics are constants)
//
// x, dy, dx [outer, C, inner]; the rest [C]; n elements per channel. One invocation owns one element.
struct Params {
  count: u32,
  channels: u32,
  inner: u32,
  n: u32,
  eps: f32,
  training: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> variance: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> dgamma: array<f32>;
@group(0) @binding(6) var<storage, read> dbeta: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let c = i / params.inner % params.channels;
  let inverse = 1.0 / sqrt(variance[c] + params.eps);
  var value = dy[i];
  if (params.training != 0u) {
    value -= (dbeta[c] + (x[i] - mean[c]) * inverse * dgamma[c]) / f32(params.n);
  }
  dx[i] = gamma[c] * inverse * value;
}
