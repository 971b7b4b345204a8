// Convolution as a product without stored columns (implicit GEMM), on the tile of matmul_subgroup.wgsl, without groups.
//
//   y[p, o] = Σ_{tap, c} x[pixel(p, tap), c] w[tap, c, o] (+ bias[o]) (+ residual[p, o]) (then ReLU)
//
// x [N, H, W, C]; w [KH, KW, C, O]; bias [O]; residual, y [N, OH, OW, O]: all as vec4 along the last axis, so C and O are
// multiples of 4. A row p of the product is an output pixel. The pictures of a batch follow one another, so small maps fill
// tiles, too. A workgroup is one subgroup and owns TILE pixels × TILE channels; a lane loads 4 channels of its 4 pixels per
// step. Whether a tap falls outside the picture is settled once per tap, not per channel. Against im2col it saves writing and
// reading the columns, which repeat the input for each tap.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const TILE: u32 = 4u * WIDTH;

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
  tiles: u32, // workgroups are counted through two dimensions
}

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

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = group.x + group.y * groups.x;
  if (tile >= params.tiles) {
    return;
  }
  let pixels = params.count / params.out_channels;
  let row0 = tile / params.row_step % params.row_tiles * TILE;
  let column = tile / params.column_step % params.column_tiles * TILE + 4u * lane;
  let column4 = min(column, params.out_channels - 4u) / 4u;
  let out4 = params.out_channels / 4u;
  let c4_count = params.channels / 4u;
  let rows = min(vec4u(row0 + 4u * lane) + vec4u(0u, 1u, 2u, 3u), vec4u(pixels - 1u));
  let ox = rows % vec4u(params.out_width);
  let oy = rows / params.out_width % vec4u(params.out_height);
  let image = rows / (params.out_width * params.out_height) * (params.height * params.width);

  var acc: array<vec4f, TILE>;
  var w_at = column4;
  for (var ky = 0u; ky < params.kernel_height; ky++) {
    let iy = oy * params.stride_y + ky * params.dilation_y - params.pad_y; // wraps when negative
    for (var kx = 0u; kx < params.kernel_width; kx++) {
      let ix = ox * params.stride_x + kx * params.dilation_x - params.pad_x;
      let inside = (iy < vec4u(params.height)) & (ix < vec4u(params.width));
      let x_at = select(vec4u(0u), (image + iy * params.width + ix) * c4_count, inside);
      for (var c4 = 0u; c4 < c4_count; c4++) {
        let t0 = select(vec4f(), x[x_at.x + c4], vec4<bool>(inside.x));
        let t1 = select(vec4f(), x[x_at.y + c4], vec4<bool>(inside.y));
        let t2 = select(vec4f(), x[x_at.z + c4], vec4<bool>(inside.z));
        let t3 = select(vec4f(), x[x_at.w + c4], vec4<bool>(inside.w));
        let a0 = vec4f(t0.x, t1.x, t2.x, t3.x); // channel 4 c4, component = pixel
        let a1 = vec4f(t0.y, t1.y, t2.y, t3.y);
        let a2 = vec4f(t0.z, t1.z, t2.z, t3.z);
        let a3 = vec4f(t0.w, t1.w, t2.w, t3.w);
        let b0 = w[w_at];
        let b1 = w[w_at + out4];
        let b2 = w[w_at + 2u * out4];
        let b3 = w[w_at + 3u * out4];
        w_at += 4u * out4;
        for (var r = 0u; r < TILE; r++) { // @unroll
          acc[r] = acc[r] + subgroupShuffle(a0[r % 4u], r / 4u) * b0 + subgroupShuffle(a1[r % 4u], r / 4u) * b1 + subgroupShuffle(a2[r % 4u], r / 4u) * b2 + subgroupShuffle(a3[r % 4u], r / 4u) * b3;
        }
      }
    }
  }

  // The epilogue runs once, so its loop stays rolled over a copy: written out, it would take long to compile.
  var block: array<vec4f, TILE>;
  for (var r = 0u; r < TILE; r++) { // @unroll
    block[r] = acc[r];
  }
  if (column >= params.out_channels) {
    return;
  }
  var start = vec4f();
  if (params.has_bias != 0u) {
    start = bias[column4];
  }
  for (var r = 0u; r < min(TILE, pixels - row0); r++) {
    let at = (row0 + r) * out4 + column4;
    var value = block[r] + start;
    if (params.has_residual != 0u) {
      value += residual[at];
    }
    if (params.relu != 0u) {
      value = select(max(value, vec4f()), value, is_nan(value));
    }
    y[at] = value;
  }
}
