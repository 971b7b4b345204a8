// Gradient of the convolution for its weights: one invocation owns one weight and sums over all pictures and pixels.
//
//   dw[ky, kx, c, o] = Σ_{n, oy, ox} x[n, oy·stride − pad + ky·dilation, ox·…, g·C/G + c] dy[n, oy, ox, o]
//
// x [N, H, W, C]; dy [N, OH, OW, O]; dw [KH, KW, C/G, O]. Rows of a picture are summed apart, then added, to keep the error
// small.
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
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let group_channels = params.channels / params.groups;
  let o = i % params.out_channels;
  let c = (i / params.out_channels) % group_channels;
  let kx = (i / params.out_channels / group_channels) % params.kernel_width;
  let ky = i / params.out_channels / group_channels / params.kernel_width;
  let channel = o / (params.out_channels / params.groups) * group_channels + c;
  var sum = 0.0;
  for (var n = 0u; n < params.images; n++) {
    for (var oy = 0u; oy < params.out_height; oy++) {
      let iy = oy * params.stride_y + ky * params.dilation_y - params.pad_y; // wraps when negative
      if (iy >= params.height) {
        continue;
      }
      var row = 0.0;
      for (var ox = 0u; ox < params.out_width; ox++) {
        let ix = ox * params.stride_x + kx * params.dilation_x - params.pad_x;
        if (ix < params.width) {
          row += x[((n * params.height + iy) * params.width + ix) * params.channels + channel] * dy[((n * params.out_height + oy) * params.out_width + ox) * params.out_channels + o];
        }
      }
      sum += row;
    }
  }
  dw[i] = sum;
}
