// Convolution, the definition itself, with groups and dilation: one invocation owns one element of the output.
//
//   y[n, oy, ox, o] = Σ_{ky, kx, c} x[n, oy·stride − pad + ky·dilation, ox·…, g·C/G + c] w[ky, kx, c, o] (+ bias[o])
//                     (+ residual) (then ReLU)                                  g = ⌊o / (O / G)⌋
//
// x [N, H, W, C]; w [KH, KW, C/G, O]; bias [O]; residual, y [N, OH, OW, O]. Buffers that are not wanted bind x.
// Gradients: conv2d_grad_input.wgsl, conv2d_grad_weight.wgsl.
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

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let o = i % params.out_channels;
  let ox = (i / params.out_channels) % params.out_width;
  let oy = (i / params.out_channels / params.out_width) % params.out_height;
  let n = i / params.out_channels / params.out_width / params.out_height;
  let group_channels = params.channels / params.groups;
  let first_channel = o / (params.out_channels / params.groups) * group_channels;
  var sum = 0.0;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    let iy = oy * params.stride_y + ky * params.dilation_y - params.pad_y; // wraps when negative
    if (iy >= params.height) {
      continue;
    }
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      let ix = ox * params.stride_x + kx * params.dilation_x - params.pad_x;
      if (ix >= params.width) {
        continue;
      }
      let x_at = ((n * params.height + iy) * params.width + ix) * params.channels + first_channel;
      let w_at = (ky * params.kernel_width + kx) * group_channels * params.out_channels + o;
      for (var c = 0u; c < group_channels; c++) {
        sum += x[x_at + c] * w[w_at + c * params.out_channels];
      }
    }
  }
  if (params.has_bias != 0u) {
    sum += bias[o];
  }
  if (params.has_residual != 0u) {
    sum += residual[i];
  }
  y[i] = select(sum, max(sum, 0.0), params.relu != 0u && !is_nan(sum));
}
