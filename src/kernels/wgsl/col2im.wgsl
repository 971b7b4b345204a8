// Gradient of im2col.wgsl: each element of a picture gathers from all rows it was copied into; no atomics.
//
//   dx[n, iy, ix, c] = Σ over (ky, kx) with oy·stride = iy + pad − ky·dilation of dcolumns[(n, oy, ox), (ky, kx, c)]
//
// dcolumns [N·OH·OW, KH·KW·C]; dx [N, H, W, C], written from image first_image on. One invocation owns one element of dx.
struct Params {
  count: u32,
  height: u32,
  width: u32,
  channels: u32,
  out_height: u32,
  out_width: u32,
  kernel_height: u32,
  kernel_width: u32,
  stride_y: u32,
  stride_x: u32,
  pad_y: u32,
  pad_x: u32,
  dilation_y: u32,
  dilation_x: u32,
  first_image: u32,
}

@group(0) @binding(0) var<storage, read> dcolumns: array<f32>;
@group(0) @binding(1) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let c = i % params.channels;
  let ix = (i / params.channels) % params.width;
  let iy = (i / params.channels / params.width) % params.height;
  let n = i / params.channels / params.width / params.height;
  var sum = 0.0;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    let y = iy + params.pad_y - ky * params.dilation_y; // wraps to a huge number when negative
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
      let row = (n * params.out_height + oy) * params.out_width + ox;
      sum += dcolumns[((row * params.kernel_height + ky) * params.kernel_width + kx) * params.channels + c];
    }
  }
  dx[i + params.first_image * params.height * params.width * params.channels] = sum;
}
