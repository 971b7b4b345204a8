// Pooling over windows of up to three axes: the largest element, the mean, or a norm.
//
//   y[n, c, o] = largest, mean or (Σ |x|^power)^(1/power) over the window of x[n, c, o·stride − pad + k·dilation]
//
// x and y [N, C, D, H, W] or [N, D, H, W, C], through strides; pictures have D = 1. Cells outside never win a max, and a window of
// them alone is −∞; a NaN always wins. Rows of a window are summed apart, then added, to keep the error small. One invocation owns
// one output. Gradient: pool_grad.wgsl; which element is the largest: pool_largest.wgsl.
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
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
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

fn power_of(base: f32) -> f32 {
  var result = base;
  for (var k = 1u; k < params.power; k++) {
    result *= base;
  }
  return result;
}

fn root_of(value: f32) -> f32 {
  if (params.power == 1u) {
    return value;
  }
  if (params.power == 2u) {
    return sqrt(value);
  }
  let bits = bitcast<u32>(value) & 0x7fffffffu;
  return select(pow(value, 1.0 / f32(params.power)), value, bits == 0u || bits >= 0x7f800000u); // a NaN and infinity as they are
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let c = i % params.channels;
  let ox = (i / params.channels) % params.out_width;
  let oy = (i / params.channels / params.out_width) % params.out_height;
  let slice = i / params.channels / params.out_width / params.out_height;
  let oz = select(0u, slice % params.out_depth, VOLUME);
  let n = select(slice, slice / params.out_depth, VOLUME);
  let x_base = n * params.x_image + c * params.x_channel;
  var lowest = 0xff800000u; // −∞
  var best = bitcast<f32>(lowest);
  var magnitude = 0u; // the largest by bits: beyond infinity's it is a NaN's
  var sum = 0.0;
  for (var kz = 0u; kz < select(1u, params.kernel_depth, VOLUME); kz++) {
    let iz = select(0u, oz * params.stride_z + kz * params.dilation_z - params.pad_z, VOLUME); // wraps when negative
    if (VOLUME && iz >= params.depth) {
      continue;
    }
    for (var ky = 0u; ky < params.kernel_height; ky++) {
      let iy = oy * params.stride_y + ky * params.dilation_y - params.pad_y;
      if (iy >= params.height) {
        continue;
      }
      let x_row = x_base + iz * params.x_plane + iy * params.x_row;
      var line = 0.0;
      for (var kx = 0u; kx < params.kernel_width; kx++) {
        let ix = ox * params.stride_x + kx * params.dilation_x - params.pad_x;
        if (ix >= params.width) {
          continue;
        }
        let value = x[x_row + ix * params.x_pixel];
        if (KIND == 0u) {
          best = max(best, value);
          magnitude = max(magnitude, bitcast<u32>(value) & 0x7fffffffu);
        } else if (KIND == 1u) {
          line += value;
        } else {
          line += power_of(abs(value));
        }
      }
      sum += line;
    }
  }
  var result = select(best, bitcast<f32>(magnitude), magnitude > 0x7f800000u);
  if (KIND == 1u) {
    result = sum / cells_of(oz, oy, ox);
  } else if (KIND == 2u) {
    result = root_of(sum);
  }
  y[n * params.y_image + oz * params.y_plane + oy * params.y_row + ox * params.y_pixel + c * params.y_channel] = result;
}
