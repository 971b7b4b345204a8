// Batch normalization, step 2 of 3 (training): the chunks' moments become the batch's (Chan, Golub and LeVeque 1979).
//
//   mean[c] = Σ_s n_s mean[s, c] / n;   var[c] = Σ_s (m2[s, c] + n_s (mean[s, c] − mean[c])²) / n   (biased)
//
// chunk_mean and chunk_m2 [pieces, C] come from batchnorm_partial.wgsl, n_s is the size of chunk s. One invocation owns one
// channel.
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

// A sum of many terms: of single ones, and of 8, 64, 512 and 4,096 together, of which only the last ever has more than eight
// terms. The error of a plain running sum grows with their count.
struct LongSum {
  terms: u32,
  ones: f32,
  more: vec4f,
}

fn add(sum: ptr<function, LongSum>, value: f32) {
  (*sum).terms++;
  (*sum).ones += value;
  if ((*sum).terms % 8u == 0u) {
    (*sum).more.x += (*sum).ones;
    (*sum).ones = 0.0;
    if ((*sum).terms % 64u == 0u) {
      (*sum).more.y += (*sum).more.x;
      (*sum).more.x = 0.0;
      if ((*sum).terms % 512u == 0u) {
        (*sum).more.z += (*sum).more.y;
        (*sum).more.y = 0.0;
        if ((*sum).terms % 4096u == 0u) {
          (*sum).more.w += (*sum).more.z;
          (*sum).more.z = 0.0;
        }
      }
    }
  }
}

fn total(sum: LongSum) -> f32 {
  return ((sum.ones + sum.more.x) + sum.more.y) + (sum.more.z + sum.more.w);
}

// Elements of a chunk; the last may have fewer.
fn size_of(piece: u32) -> f32 {
  return f32(min(params.n, (piece + 1u) * params.chunk) - piece * params.chunk);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  let c = index;
  if (c >= params.channels) {
    return;
  }
  let origin = chunk_mean[c]; // as in batchnorm_partial.wgsl
  var sum = LongSum();
  for (var piece = 0u; piece < params.pieces; piece++) {
    add(&sum, (chunk_mean[piece * params.channels + c] - origin) * size_of(piece));
  }
  let average = origin + total(sum) / f32(params.n);
  var squares = LongSum();
  for (var piece = 0u; piece < params.pieces; piece++) {
    let delta = chunk_mean[piece * params.channels + c] - average;
    add(&squares, chunk_m2[piece * params.channels + c] + delta * delta * size_of(piece));
  }
  mean[c] = average;
  variance[c] = total(squares) / f32(params.n);
}
