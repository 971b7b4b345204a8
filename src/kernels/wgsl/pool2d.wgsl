// Max and average pooling over windows.
//
//   y[n, c, oy, ox] = max or mean over the window of x[n, c, oy·stride − pad + ky, ox·stride − pad + kx]
//
// x and y in either layout, through strides. Cells outside the picture never win a max; a NaN always does. Rows of a window are
// summed apart, then added, to keep the error small. One invocation owns one output. Gradient: pool2d_grad.wgsl.
struct Params {
  count: u32,
  channels: u32,
  height: u32,
  width: u32,
  out_height: u32,
  out_width: u32,
  kernel_height: u32,
  kernel_width: u32,
  stride_y: u32,
  stride_x: u32,
  pad_y: u32,
  pad_x: u32,
  count_padding: u32, // average over the whole window (1) or over its part inside the picture (0)
  x_image: u32, // strides in elements, so that one shader serves NCHW and NHWC
  x_row: u32,
  x_pixel: u32,
  x_channel: u32,
  y_image: u32,
  y_row: u32,
  y_pixel: u32,
  y_channel: u32,
}

override IS_MAX: bool = true;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let c = i % params.channels;
  let ox = (i / params.channels) % params.out_width;
  let oy = (i / params.channels / params.out_width) % params.out_height;
  let n = i / params.channels / params.out_width / params.out_height;
  var best = 0.0;
  var magnitude = 0u; // the largest by bits: beyond infinity's it is a NaN's
  var sum = 0.0;
  var cells = 0u;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    let iy = oy * params.stride_y + ky - params.pad_y; // wraps when negative
    if (iy >= params.height) {
      continue;
    }
    var line = 0.0;
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      let ix = ox * params.stride_x + kx - params.pad_x;
      if (ix >= params.width) {
        continue;
      }
      let value = x[n * params.x_image + iy * params.x_row + ix * params.x_pixel + c * params.x_channel];
      best = select(max(best, value), value, cells == 0u);
      magnitude = max(magnitude, bitcast<u32>(value) & 0x7fffffffu);
      line += value;
      cells++;
    }
    sum += line;
  }
  best = select(best, bitcast<f32>(magnitude), magnitude > 0x7f800000u);
  let divisor = select(cells, params.kernel_height * params.kernel_width, params.count_padding != 0u);
  y[n * params.y_image + oy * params.y_row + ox * params.y_pixel + c * params.y_channel] = select(sum / f32(max(divisor, 1u)), best, IS_MAX);
}
