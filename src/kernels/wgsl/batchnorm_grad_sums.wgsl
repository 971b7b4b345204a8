// Gradient of batch normalization, step 1: the two sums per channel and chunk that everything else is made of.
//
//   sum_dy[s, c] = Σ dy;  sum_dy_xhat[s, c] = Σ dy · x̂,   x̂ = (x − mean) / √(var + eps)
//
// Layouts and chunks as in batchnorm_partial.wgsl. The sums over the chunks are dbeta and dgamma. One invocation owns one chunk
// of one channel.
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
  var plain = LongSum();
  var weighted = LongSum();
  for (var j = piece * params.chunk; j < end; j++) {
    let at = (j / params.inner * params.channels + c) * params.inner + j % params.inner;
    add(&plain, dy[at]);
    add(&weighted, dy[at] * (x[at] - mean[c]) * inverse);
  }
  sum_dy[index] = total(plain);
  sum_dy_xhat[index] = total(weighted);
}
