// Depthwise convolution: every channel is a group of its own, with one filter or several. Four channels are read at a time.
//
//   y[n, oy, ox, o] = Σ_{ky, kx} x[n, oy·stride − pad + ky·dilation, ox·…, ⌊o / M⌋] w[ky, kx, 0, o] (+ bias[o]) (+ residual) (then ReLU)
//
// x [N, H, W, C]; w [KH, KW, 1, O] with O = M C; bias [O]; residual, y [N, OH, OW, O]; C a multiple of 4. Buffers that are not wanted
// bind x. One invocation owns four channels of four pixels side by side, so that each weight is read once for all of them.
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

override ONE_FILTER: bool = true; // per channel

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> w: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read> residual: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// The pixel's values that belong to four output channels; zeros outside of the picture.
fn pixel(row: u32, ix: u32, quad: u32, channels: vec4u) -> vec4f {
  let at = (row + ix) * (params.channels / 4u);
  if (ONE_FILTER) {
    return select(vec4f(), x[at + quad], ix < params.width);
  }
  let quads = channels / 4u;
  let lanes = channels % 4u;
  let values = vec4f(x[at + quads.x][lanes.x], x[at + quads.y][lanes.y], x[at + quads.z][lanes.z], x[at + quads.w][lanes.w]);
  return select(vec4f(), values, ix < params.width);
}

fn finish(sum: vec4f, n: u32, oy: u32, ox: u32, quad: u32) {
  if (ox >= params.out_width) {
    return;
  }
  let at = ((n * params.out_height + oy) * params.out_width + ox) * (params.out_channels / 4u) + quad;
  var value = sum;
  if (params.has_bias != 0u) {
    value += bias[quad];
  }
  if (params.has_residual != 0u) {
    value += residual[at];
  }
  if (params.relu != 0u) {
    value = select(max(value, vec4f()), value, is_nan(value));
  }
  y[at] = value;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let quads = params.out_channels / 4u;
  let runs = (params.out_width + 3u) / 4u;
  let quad = i % quads;
  let ox = (i / quads) % runs * 4u;
  let oy = (i / quads / runs) % params.out_height;
  let n = i / quads / runs / params.out_height;
  let filters = params.out_channels / params.channels;
  let channels = (vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u)) / filters;
  var sum0 = vec4f();
  var sum1 = vec4f();
  var sum2 = vec4f();
  var sum3 = vec4f();
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    let iy = oy * params.stride_y + ky * params.dilation_y - params.pad_y; // wraps when negative
    if (iy >= params.height) {
      continue;
    }
    let row = (n * params.height + iy) * params.width;
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      let ix = ox * params.stride_x + kx * params.dilation_x - params.pad_x;
      let weight = w[(ky * params.kernel_width + kx) * quads + quad];
      sum0 += pixel(row, ix, quad, channels) * weight;
      sum1 += pixel(row, ix + params.stride_x, quad, channels) * weight;
      sum2 += pixel(row, ix + 2u * params.stride_x, quad, channels) * weight;
      sum3 += pixel(row, ix + 3u * params.stride_x, quad, channels) * weight;
    }
  }
  finish(sum0, n, oy, ox, quad);
  finish(sum1, n, oy, ox + 1u, quad);
  finish(sum2, n, oy, ox + 2u, quad);
  finish(sum3, n, oy, ox + 3u, quad);
}
