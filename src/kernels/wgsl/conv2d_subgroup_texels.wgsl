// Convolution as conv2d_subgroup.wgsl, reading pictures and weights as texels: one subgroup owns PIXELS × COLUMNS elements.
//
//   y[p, o] = Σ_{tap, c} x[pixel(p, tap), c] w[tap, c, o] (+ bias[o]) (+ residual[p, o]) (then ReLU)
//
// Shapes as there. The recorder copies x and w into textures just before (src/gpu/texels.ts); matmul_subgroup_texels.wgsl says
// why. With PARTS = 2 a tile has two blocks of output channels, so pixels are loaded and shuffled half as often. With w_panel
// the weights lie in panels (column_panels.wgsl).
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const PIXELS: u32 = 4u * WIDTH;
const PARTS: u32 = 1u; // @tune 1 2
const COLUMNS: u32 = 4u * WIDTH * PARTS;

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
  column_tiles: u32,
  row_tiles: u32,
  column_step: u32, // tiles from one column of tiles to the next: the shorter side comes first, so that its operand stays in the cache
  row_step: u32,
  x_row: u32, // vec4 of a pixel
  x_row_mask: u32,
  x_row_shift: u32,
  x_x_mask: u32,
  x_x_shift: u32,
  w_panel: u32, // rows of w from one panel of it (column_panels.wgsl) to the next; 0 where it lies as it is
  w_row: u32, // vec4 of a channel of a tap
  w_row_mask: u32,
  w_row_shift: u32,
  w_x_mask: u32,
  w_x_shift: u32,
  tiles: u32, // workgroups are counted through two dimensions
}

@group(0) @binding(0) var x: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var w_texels: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read> residual: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

// Vec4 `column` of a pixel that begins at `origin` (src/gpu/texels.ts has the two layouts).
fn x_at(origin_x: u32, origin_y: u32, column: u32) -> vec4f {
  let x_texel = origin_x + column;
  return textureLoad(x, vec2u(x_texel & params.x_x_mask, origin_y + (x_texel >> params.x_x_shift)));
}

// Vec4 `column` of weights of input channel r, counted through the taps.
fn w_at(r: u32, column: u32) -> vec4f {
  let w_texel = (r & params.w_row_mask) * params.w_row + column;
  return textureLoad(w_texels, vec2u(w_texel & params.w_x_mask, (r >> params.w_row_shift) + (w_texel >> params.w_x_shift)));
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = group.x + group.y * groups.x;
  if (tile >= params.tiles) {
    return;
  }
  let pixels = params.count / params.out_channels;
  let row0 = tile / params.row_step % params.row_tiles * PIXELS;
  let column = tile / params.column_step % params.column_tiles * COLUMNS + 4u * lane;
  // Of each part, the first row of weights and the column. Lanes beyond the edge repeat the last columns and store nothing.
  var w_rows: array<u32, PARTS>;
  var columns4: array<u32, PARTS>;
  for (var p = 0u; p < PARTS; p++) { // @unroll
    columns4[p] = min(column + 4u * WIDTH * p, params.out_channels - 4u) / 4u;
    if (params.w_panel != 0u) {
      w_rows[p] = columns4[p] / WIDTH * params.w_panel;
      columns4[p] = columns4[p] % WIDTH;
    }
  }
  let out4 = params.out_channels / 4u;
  let c4_count = params.channels / 4u;
  let rows = min(vec4u(row0 + 4u * lane) + vec4u(0u, 1u, 2u, 3u), vec4u(pixels - 1u));
  let ox = rows % vec4u(params.out_width);
  let oy = rows / params.out_width % vec4u(params.out_height);
  let image = rows / (params.out_width * params.out_height) * (params.height * params.width);

  var acc: array<vec4f, PIXELS * PARTS>;
  var channel = 0u;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    let iy = oy * params.stride_y + ky * params.dilation_y - params.pad_y; // wraps when negative
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      let ix = ox * params.stride_x + kx * params.dilation_x - params.pad_x;
      let inside = (iy < vec4u(params.height)) & (ix < vec4u(params.width));
      let pixel = select(vec4u(0u), image + iy * params.width + ix, inside);
      let pixel_x = (pixel & vec4u(params.x_row_mask)) * params.x_row;
      let pixel_y = pixel >> vec4u(params.x_row_shift);
      for (var c4 = 0u; c4 < c4_count; c4++) {
        let t0 = select(vec4f(), x_at(pixel_x.x, pixel_y.x, c4), vec4<bool>(inside.x));
        let t1 = select(vec4f(), x_at(pixel_x.y, pixel_y.y, c4), vec4<bool>(inside.y));
        let t2 = select(vec4f(), x_at(pixel_x.z, pixel_y.z, c4), vec4<bool>(inside.z));
        let t3 = select(vec4f(), x_at(pixel_x.w, pixel_y.w, c4), vec4<bool>(inside.w));
        let a0 = vec4f(t0.x, t1.x, t2.x, t3.x); // channel 4 c4, component = pixel
        let a1 = vec4f(t0.y, t1.y, t2.y, t3.y);
        let a2 = vec4f(t0.z, t1.z, t2.z, t3.z);
        let a3 = vec4f(t0.w, t1.w, t2.w, t3.w);
        var b: array<vec4f, 4u * PARTS>; // four channels of each part, component = output channel
        for (var p = 0u; p < PARTS; p++) { // @unroll
          for (var i = 0u; i < 4u; i++) { // @unroll
            b[4u * p + i] = w_at(w_rows[p] + channel + i, columns4[p]);
          }
        }
        channel += 4u;
        for (var r = 0u; r < PIXELS; r++) { // @unroll
          let s0 = subgroupShuffle(a0[r % 4u], r / 4u);
          let s1 = subgroupShuffle(a1[r % 4u], r / 4u);
          let s2 = subgroupShuffle(a2[r % 4u], r / 4u);
          let s3 = subgroupShuffle(a3[r % 4u], r / 4u);
          for (var p = 0u; p < PARTS; p++) { // @unroll
            acc[r * PARTS + p] = acc[r * PARTS + p] + s0 * b[4u * p] + s1 * b[4u * p + 1u] + s2 * b[4u * p + 2u] + s3 * b[4u * p + 3u];
          }
        }
      }
    }
  }

  // The epilogue runs once, so its loop stays rolled over a copy: written out, it would take long to compile.
  var block: array<vec4f, PIXELS * PARTS>;
  for (var r = 0u; r < PIXELS * PARTS; r++) { // @unroll
    block[r] = acc[r];
  }
  for (var p = 0u; p < PARTS; p++) {
    let column4 = column / 4u + WIDTH * p;
    if (column4 >= out4) {
      return;
    }
    var start = vec4f();
    if (params.has_bias != 0u) {
      start = bias[column4];
    }
    for (var r = 0u; r < min(PIXELS, pixels - row0); r++) {
      let at = (row0 + r) * out4 + column4;
      var value = block[r * PARTS + p] + start;
      if (params.has_residual != 0u) {
        value += residual[at];
      }
      if (params.relu != 0u) {
        value = select(max(value, vec4f()), value, is_nan(value));
      }
      y[at] = value;
    }
  }
}
