// Unfolds pictures into rows, so that a convolution becomes one matrix product.
//
//   columns[(n, oy, ox), (ky, kx, c)] = x[n, oy·stride − pad + ky·dilation, ox·…, c]     0 outside the picture
//
// x [N, H, W, C], read from image first_image on; columns [N·OH·OW, KH·KW·C]. One invocation owns one element of columns.
// Gradient: col2im.wgsl.
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

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> columns: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  var rest = i;
  let c = rest % params.channels;
  rest /= params.channels;
  let kx = rest % params.kernel_width;
  rest /= params.kernel_width;
  let ky = rest % params.kernel_height;
  rest /= params.kernel_height;
  let ox = rest % params.out_width;
  rest /= params.out_width;
  let oy = rest % params.out_height;
  let n = rest / params.out_height + params.first_image;
  // Unsigned: a coordinate left of or above the picture wraps to a huge one and fails the same test.
  let iy = oy * params.stride_y + ky * params.dilation_y - params.pad_y;
  let ix = ox * params.stride_x + kx * params.dilation_x - params.pad_x;
  var value = 0.0;
  if (iy < params.height && ix < params.width) {
    value = x[((n * params.height + iy) * params.width + ix) * params.channels + c];
  }
  columns[i] = value;
}
