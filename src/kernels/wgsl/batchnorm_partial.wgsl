// Batch normalization, step 1 of 3 (training): mean and squared deviation per channel and chunk of the batch.
//
//   mean[s, c] = mean of the chunk;  m2[s, c] = Σ (x − mean[s, c])²  over the chunk
//
// x [outer, C, inner] (NCHW: inner = H·W; NHWC: inner = 1). Element j of a channel is x[j / inner, c, j % inner]. Chunk s
// has elements s·chunk and those that follow, up to chunk of them. Two passes per chunk: no large sum of squares is ever
// subtracted. One invocation owns one chunk of one channel.
struct Params {
  channels: u32,
  inner: u32,
  n: u32, // elements per channel
  chunk: u32,
  pieces: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> mean: array<f32>;
@group(0) @binding(2) var<storage, read_write> m2: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

fn at(c: u32, j: u32) -> u32 {
  return (j / params.inner * params.channels + c) * params.inner + j % params.inner;
}

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
  let first = piece * params.chunk;
  let end = min(params.n, first + params.chunk);
  // By the distance from the first number: WGSL lets a division be off by 2.5 units of its last digit, which are coarse far from 0.
  let origin = x[at(c, first)];
  var sum = LongSum();
  for (var j = first; j < end; j++) {
    add(&sum, x[at(c, j)] - origin);
  }
  let average = origin + total(sum) / f32(end - first);
  var squares = LongSum();
  for (var j = first; j < end; j++) {
    let d = x[at(c, j)] - average;
    add(&squares, d * d);
  }
  mean[index] = average;
  m2[index] = total(squares);
}
