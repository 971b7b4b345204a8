// Gradient of pool.wgsl: each input element looks at every window that holds it; no atomics.
//
//   largest:  a window's dy goes to the element that pool_largest.wgsl found
//   mean:     dy / divisor of each window
//   norm:     dy · sign(x) · (|x| / y)^(power − 1), and nothing from a window of zeros
//
// x and dx in one layout, index, y and dy in one layout, [N, C, D, H, W] or [N, D, H, W, C] through strides. Buffers that the kind
// does not want bind dy. One invocation owns one element of dx.
struct Params {
  count: u32,
  channels: u32,
  depth: u32,
  height: u32,
  width: u32,
  out_depth: u32,
  out_height: u32,
  out_width: u32,
  kernel_depth: u32,
  kernel_height: u32,
  kernel_width: u32,
  stride_z: u32,
  stride_y: u32,
  stride_x: u32,
  pad_z: u32,
  pad_y: u32,
  pad_x: u32,
  dilation_z: u32,
  dilation_y: u32,
  dilation_x: u32,
  count_before_z: u32, // where cells begin and end to count in a mean, from the first element of the padding
  count_before_y: u32,
  count_before_x: u32,
  count_end_z: u32,
  count_end_y: u32,
  count_end_x: u32,
  power: u32, // of a norm
  x_image: u32, // strides in elements, so that one shader serves channels first and last
  x_plane: u32,
  x_row: u32,
  x_pixel: u32,
  x_channel: u32,
  y_image: u32,
  y_plane: u32,
  y_row: u32,
  y_pixel: u32,
  y_channel: u32,
}

override KIND: u32 = 0u; // 0 largest, 1 mean, 2 norm
override VOLUME: bool = true; // false: pictures, whose depth is 1 without a loop

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// How many of a window's cells lie within [before, end), along one axis.
fn cells_along(start: u32, dilation: u32, kernel: u32, before: u32, end: u32) -> u32 {
  let until_end = select(0u, min(kernel, (end - start + dilation - 1u) / dilation), end > start);
  let until_before = select(0u, min(kernel, (before - start + dilation - 1u) / dilation), before > start);
  return until_end - until_before;
}

// The divisor of a mean.
fn cells_of(oz: u32, oy: u32, ox: u32) -> f32 {
  let z = cells_along(oz * params.stride_z, params.dilation_z, params.kernel_depth, params.count_before_z, params.count_end_z);
  let y = cells_along(oy * params.stride_y, params.dilation_y, params.kernel_height, params.count_before_y, params.count_end_y);
  let x = cells_along(ox * params.stride_x, params.dilation_x, params.kernel_width, params.count_before_x, params.count_end_x);
  return f32(max(select(1u, z, VOLUME) * y * x, 1u));
}

// The windows that may hold a place, counted from the first element of the padding: from x to below y.
fn windows(place: u32, kernel: u32, stride: u32, dilation: u32, out: u32) -> vec2u {
  let span = (kernel - 1u) * dilation;
  return vec2u(select(0u, (place - span + stride - 1u) / stride, place > span), min(place / stride + 1u, out));
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn norm_slope(value: f32, norm: f32) -> f32 {
  var slope = sign(value);
  for (var k = 1u; k < params.power; k++) {
    slope *= abs(value) / norm;
  }
  return select(select(slope, 0.0, norm == 0.0), value, is_nan(value));
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
  let slice = i / params.channels / params.width / params.height;
  let x_plane = select(0u, slice % params.depth, VOLUME);
  let n = select(slice, slice / params.depth, VOLUME);
  let x_at = n * params.x_image + x_plane * params.x_plane + x_line * params.x_row + x_column * params.x_pixel + c * params.x_channel;
  let own = (((n * params.channels + c) * params.depth + x_plane) * params.height + x_line) * params.width + x_column;
  let place_z = x_plane + params.pad_z;
  let place_y = x_line + params.pad_y;
  let place_x = x_column + params.pad_x;
  let range_z = select(vec2u(0u, 1u), windows(place_z, params.kernel_depth, params.stride_z, params.dilation_z, params.out_depth), VOLUME);
  let range_y = windows(place_y, params.kernel_height, params.stride_y, params.dilation_y, params.out_height);
  let range_x = windows(place_x, params.kernel_width, params.stride_x, params.dilation_x, params.out_width);
  var sum = 0.0;
  for (var oz = range_z.x; oz < range_z.y; oz++) {
    if (VOLUME && (place_z - oz * params.stride_z) % params.dilation_z != 0u) {
      continue;
    }
    for (var oy = range_y.x; oy < range_y.y; oy++) {
      if ((place_y - oy * params.stride_y) % params.dilation_y != 0u) {
        continue;
      }
      for (var ox = range_x.x; ox < range_x.y; ox++) {
        if ((place_x - ox * params.stride_x) % params.dilation_x != 0u) {
          continue;
        }
        let y_at = n * params.y_image + oz * params.y_plane + oy * params.y_row + ox * params.y_pixel + c * params.y_channel;
        if (KIND == 0u) {
          sum += select(0.0, dy[y_at], index[y_at] == own);
        } else if (KIND == 1u) {
          sum += dy[y_at] / cells_of(oz, oy, ox);
        } else {
          sum += dy[y_at] * norm_slope(x[x_at], y[y_at]);
        }
      }
    }
  }
  dx[x_at] = sum;
}
