// Batch normalization, step 2 of 3 (training): the chunks' moments become the batch's (Chan, Golub and LeVeque 1979).
//
//   mean[c], var[c] (biased, over n elements)
//
// One invocation owns one channel. chunk means and m2 are [pieces, C], from batchnorm_partial.wgsl.
struct Params {
  channels: u32,
  n: u32,
  chunk: u32,
  pieces: u32,
}

@group(0) @binding(0) var<storage, read> chunk_mean: array<f32>;
@group(0) @binding(1) var<storage, read> chunk_m2: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> variance: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  let c = index;
  if (c >= params.channels) {
    return;
  }
  var count = 0.0;
  var average = 0.0;
  var squares = 0.0;
  for (var piece = 0u; piece < params.pieces; piece++) {
    let size = f32(min(params.n, (piece + 1u) * params.chunk) - piece * params.chunk);
    let delta = chunk_mean[piece * params.channels + c] - average;
    let total = count + size;
    average += delta * size / total;
    squares += chunk_m2[piece * params.channels + c] + delta * delta * count * size / total;
    count = total;
  }
  mean[c] = average;
  variance[c] = squares / f32(params.n);
}
