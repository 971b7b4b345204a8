// Which element of each window is the largest: the first of several in row order, or the first NaN (as in PyTorch).
//
//   index[n, c, o] = the place of that element in x as [N, C, D, H, W], or 2³² − 1 for a window outside x
//
// x and index [N, C, D, H, W] or [N, D, H, W, C], through strides; pictures have D = 1. One invocation owns one index. Gradient and
// unpooling read them: pool_grad.wgsl, unpool.wgsl.
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

override VOLUME: bool = true; // false: pictures, whose depth is 1 without a loop

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> index: array<u32>;
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
  let ox = (i / params.channels) % params.out_width;
  let oy = (i / params.channels / params.out_width) % params.out_height;
  let slice = i / params.channels / params.out_width / params.out_height;
  let oz = select(0u, slice % params.out_depth, VOLUME);
  let n = select(slice, slice / params.out_depth, VOLUME);
  let x_base = n * params.x_image + c * params.x_channel;
  var best = 0u;
  var best_at = 0xffffffffu;
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
      for (var kx = 0u; kx < params.kernel_width; kx++) {
        let ix = ox * params.stride_x + kx * params.dilation_x - params.pad_x;
        if (ix >= params.width) {
          continue;
        }
        let place = order(x[x_base + iz * params.x_plane + iy * params.x_row + ix * params.x_pixel]);
        if (place > best) {
          best = place;
          best_at = (((n * params.channels + c) * params.depth + iz) * params.height + iy) * params.width + ix;
        }
      }
    }
  }
  index[n * params.y_image + oz * params.y_plane + oy * params.y_row + ox * params.y_pixel + c * params.y_channel] = best_at;
}
