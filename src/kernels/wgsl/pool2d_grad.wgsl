// Gradient of pool2d.wgsl: each input element looks at every window that holds it; no atomics.
//
//   max:      a window's dy goes to its first largest element in row order, or its first NaN (as in PyTorch)
//   average:  dy / divisor of each window
//
// x and dx in one layout, dy in that of y, through strides. One invocation owns one element of dx.
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
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// Numbers in rising order as whole numbers above 0: −0 is 0, and a NaN comes last, whatever its sign.
fn order(x: f32) -> u32 {
  let magnitude = bitcast<u32>(x) & 0x7fffffffu;
  let place = select(0x80000000u + magnitude, 0x80000000u - magnitude, bitcast<i32>(x) < 0);
  return select(place, 0xffffffffu, magnitude > 0x7f800000u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let c = i % params.channels;
  let x_column = (i / params.channels) % params.width;
  let x_line = (i / params.channels / params.width) % params.height;
  let n = i / params.channels / params.width / params.height;
  let x_base = n * params.x_image + c * params.x_channel;
  var sum = 0.0;
  for (var my = 0u; my < params.kernel_height; my++) {
    let y = x_line + params.pad_y - my; // wraps when negative
    let oy = y / params.stride_y;
    if (y % params.stride_y != 0u || oy >= params.out_height) {
      continue;
    }
    for (var mx = 0u; mx < params.kernel_width; mx++) {
      let x_shifted = x_column + params.pad_x - mx;
      let ox = x_shifted / params.stride_x;
      if (x_shifted % params.stride_x != 0u || ox >= params.out_width) {
        continue;
      }
      // Walk the window: how many cells lie inside, and which is its first largest.
      var best = 0u;
      var best_at = 0xffffffffu;
      var cells = 0u;
      for (var ky = 0u; ky < params.kernel_height; ky++) {
        let iy = oy * params.stride_y + ky - params.pad_y;
        for (var kx = 0u; kx < params.kernel_width; kx++) {
          let ix = ox * params.stride_x + kx - params.pad_x;
          if (iy < params.height && ix < params.width) {
            cells++;
            if (IS_MAX) {
              let place = order(x[x_base + iy * params.x_row + ix * params.x_pixel]);
              if (place > best) {
                best = place;
                best_at = iy * params.width + ix;
              }
            }
          }
        }
      }
      let value = dy[n * params.y_image + oy * params.y_row + ox * params.y_pixel + c * params.y_channel];
      if (IS_MAX) {
        sum += select(0.0, value, best_at == x_line * params.width + x_column);
      } else {
        sum += value / f32(select(cells, params.kernel_height * params.kernel_width, params.count_padding != 0u));
      }
    }
  }
  dx[x_base + x_line * params.x_row + x_column * params.x_pixel] = sum;
}
