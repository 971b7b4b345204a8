// Gradient of the convolution for its input: one invocation owns one element of dx and gathers what it took part in.
//
//   dx[n, iy, ix, c] = Σ_{ky, kx, o} dy[n, (iy + pad − ky·dilation) / stride, …, o] w[ky, kx, c, o]    where that divides
//
// dy [N, OH, OW, O]; w [KH, KW, C/G, O]; dx [N, H, W, C]. Only outputs of the channel's own group count.
struct Params {
  count: u32,
  height: u32,
  width: u32,
  channels: u32,
  out_height: u32,
  out_width: u32,
  out_channels: u32,
  kernel_height: u32,
  kernel_width: u32,
  stride_y: u32,
  stride_x: u32,
  pad_y: u32,
  pad_x: u32,
  dilation_y: u32,
  dilation_x: u32,
  groups: u32,
  images: u32,
  has_bias: u32,
  has_residual: u32,
  relu: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let channel = i % params.channels;
  let ix = (i / params.channels) % params.width;
  let iy = (i / params.channels / params.width) % params.height;
  let n = i / params.channels / params.width / params.height;
  let group_channels = params.channels / params.groups;
  let group_outputs = params.out_channels / params.groups;
  let c = channel % group_channels;
  let first_output = channel / group_channels * group_outputs;
  var sum = 0.0;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    let y = iy + params.pad_y - ky * params.dilation_y; // wraps when negative
    let oy = y / params.stride_y;
    if (y % params.stride_y != 0u || oy >= params.out_height) {
      continue;
    }
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      let x = ix + params.pad_x - kx * params.dilation_x;
      let ox = x / params.stride_x;
      if (x % params.stride_x != 0u || ox >= params.out_width) {
        continue;
      }
      let y_at = ((n * params.out_height + oy) * params.out_width + ox) * params.out_channels + first_output;
      let w_at = ((ky * params.kernel_width + kx) * group_channels + c) * params.out_channels + first_output;
      for (var o = 0u; o < group_outputs; o++) {
        sum += dy[y_at + o] * w[w_at + o];
      }
    }
  }
  dx[i] = sum;
}
