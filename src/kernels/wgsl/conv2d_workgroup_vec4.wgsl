// Convolution as a product without stored columns (implicit GEMM) for real GPUs, on the tile of matmul_workgroup_vec4.wgsl, without groups.
//
//   y[p, o] = Σ_{tap, c} x[pixel(p, tap), c] w[tap, c, o] (+ bias[o]) (+ residual[p, o]) (then ReLU)
//
// x [N, H, W, C]; w [KH, KW, C, O]; bias [O]; residual, y [N, OH, OW, O]: all as vec4 along the last axis, so C and O are
// multiples of 4. A row p of the product is an output pixel, and its inner axis k counts the channels of all taps. The pictures of
// a batch follow one another, so small maps fill tiles, too. A workgroup of 16 × LANE_ROWS owns TILE pixels × TILE channels, TILE =
// 64 PARTS, and walks k in steps of 16. Four k belong to one tap, so an invocation that loads a block of pixels finds the tap once.
// How tiles are loaded ahead, and what an invocation owns, is said in matmul_workgroup_vec4.wgsl.
const PARTS: u32 = 2u; // @tune 1 2
const TILE: u32 = 64u * PARTS;
const QUADS: u32 = 16u * PARTS; // vec4 in a row of a tile
const DEPTH: u32 = 16u;
const BLOCKS: u32 = 64u * PARTS; // 4 × 4 blocks in a tile
const LANE_ROWS: u32 = 16u / PARTS;
const ROW_PARTS: u32 = PARTS * PARTS;

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

var<workgroup> x_tile: array<vec4f, DEPTH * QUADS>; // [k][pixel], four pixels each
var<workgroup> w_tile: array<vec4f, DEPTH * QUADS>; // [k][output channel]

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// k, k + 1, k + 2, k + 3; component = pixel, or output channel.
struct Block {
  k0: vec4f,
  k1: vec4f,
  k2: vec4f,
  k3: vec4f,
}

// Where four output pixels begin in the pictures, before a tap is added.
struct Pixels {
  x: vec4u,
  y: vec4u,
  image: vec4u,
}

// Loads only load, as in matmul_workgroup_vec4.wgsl. `inside` tells which of four pixels are within the picture; zeros take the place of
// the others, and of all beyond the last k, when the numbers are stored.
struct Taps {
  at: vec4u,
  inside: vec4<bool>,
}

// Where four channels of four pixels lie under the tap of k.
fn taps_of(pixels: Pixels, k: u32, end: u32) -> Taps {
  let tap = k / params.channels;
  let ix = pixels.x + tap % params.kernel_width * params.dilation_x; // wraps when negative
  let iy = pixels.y + tap / params.kernel_width * params.dilation_y;
  let inside = (iy < vec4u(params.height)) & (ix < vec4u(params.width)) & vec4<bool>(k < end);
  return Taps(select(vec4u(0u), ((pixels.image + iy * params.width + ix) * params.channels + k % params.channels) / 4u, inside), inside);
}

fn x_block(at: vec4u) -> Block {
  let t0 = x[at.x];
  let t1 = x[at.y];
  let t2 = x[at.z];
  let t3 = x[at.w];
  return Block(
    vec4f(t0.x, t1.x, t2.x, t3.x),
    vec4f(t0.y, t1.y, t2.y, t3.y),
    vec4f(t0.z, t1.z, t2.z, t3.z),
    vec4f(t0.w, t1.w, t2.w, t3.w),
  );
}

// The weights of four k and four output channels. Channels beyond the last hold whatever is there: they are not stored.
fn w_block(column: u32, k: u32) -> Block {
  let out4 = params.out_channels / 4u;
  let at = k * out4 + column / 4u;
  return Block(w[at], w[at + out4], w[at + 2u * out4], w[at + 3u * out4]);
}

fn within(value: vec4f, k: u32, end: u32) -> vec4f {
  return select(vec4f(), value, k < end);
}

@compute @workgroup_size(16, LANE_ROWS)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) index: u32,
) {
  let tile = group.x + group.y * groups.x;
  if (tile >= params.tiles) {
    return;
  }
  let row0 = tile / params.row_step % params.row_tiles * TILE;
  let column0 = tile / params.column_step % params.column_tiles * TILE;
  let pixels = params.count / params.out_channels;
  let end = params.kernel_height * params.kernel_width * params.channels;
  let lane_column = index % 8u + index / 32u % 2u * 8u;
  let lane_row = index / 8u % 4u + index / 64u * 4u;

  // Which block of each tile this invocation loads. Neighbors load what lies side by side in memory: channels of a pixel, or of a
  // tap's weights. With 1 part, other invocations load weights than pixels.
  let w_index = index - 64u * (2u - PARTS);
  let loads_x = PARTS > 1u || index < BLOCKS;
  let loads_w = PARTS > 1u || w_index < BLOCKS;
  let x_quad = index / (DEPTH / 4u);
  let x_k = 4u * (index % (DEPTH / 4u));
  let x_place = x_k * QUADS + x_quad;
  let w_quad = w_index % QUADS;
  let w_k = 4u * (w_index / QUADS);
  let w_place = w_k * QUADS + w_quad;

  let rows = min(vec4u(row0 + 4u * x_quad) + vec4u(0u, 1u, 2u, 3u), vec4u(pixels - 1u));
  let first = Pixels(
    rows % vec4u(params.out_width) * params.stride_x - params.pad_x,
    rows / params.out_width % vec4u(params.out_height) * params.stride_y - params.pad_y,
    rows / (params.out_width * params.out_height) * (params.height * params.width),
  );

  var acc: array<vec4f, 4u * ROW_PARTS * PARTS>; // [part of the rows][row][part of the columns]
  var x_next: Block;
  var w_next: Block;
  var taps = taps_of(first, x_k, end);
  if (loads_x) {
    x_next = x_block(taps.at);
  }
  if (loads_w) {
    w_next = w_block(column0 + 4u * w_quad, w_k);
  }
  for (var k = 0u; k < end; k += DEPTH) {
    workgroupBarrier(); // everybody has read the tiles of the step before
    if (loads_x) {
      x_tile[x_place] = select(vec4f(), x_next.k0, taps.inside);
      x_tile[x_place + QUADS] = select(vec4f(), x_next.k1, taps.inside);
      x_tile[x_place + 2u * QUADS] = select(vec4f(), x_next.k2, taps.inside);
      x_tile[x_place + 3u * QUADS] = select(vec4f(), x_next.k3, taps.inside);
    }
    if (loads_w) {
      w_tile[w_place] = within(w_next.k0, k + w_k, end);
      w_tile[w_place + QUADS] = within(w_next.k1, k + w_k, end);
      w_tile[w_place + 2u * QUADS] = within(w_next.k2, k + w_k, end);
      w_tile[w_place + 3u * QUADS] = within(w_next.k3, k + w_k, end);
    }
    workgroupBarrier();
    if (k + DEPTH < end) {
      if (loads_x) {
        taps = taps_of(first, k + DEPTH + x_k, end);
        x_next = x_block(taps.at);
      }
      if (loads_w) {
        w_next = w_block(column0 + 4u * w_quad, k + DEPTH + w_k);
      }
    }
    for (var step = 0u; step < DEPTH; step++) {
      let at = step * QUADS;
      var weights: array<vec4f, PARTS>;
      for (var j = 0u; j < PARTS; j++) { // @unroll
        weights[j] = w_tile[at + 16u * j + lane_column];
      }
      for (var i = 0u; i < ROW_PARTS; i++) { // @unroll
        let own_pixels = x_tile[at + LANE_ROWS * i + lane_row];
        for (var r = 0u; r < 4u; r++) { // @unroll
          for (var j = 0u; j < PARTS; j++) { // @unroll
            acc[(4u * i + r) * PARTS + j] = acc[(4u * i + r) * PARTS + j] + own_pixels[r] * weights[j];
          }
        }
      }
    }
  }

  let out4 = params.out_channels / 4u;
  for (var i = 0u; i < ROW_PARTS; i++) { // @unroll
    for (var r = 0u; r < 4u; r++) { // @unroll
      for (var j = 0u; j < PARTS; j++) { // @unroll
        let row = row0 + 4u * (LANE_ROWS * i + lane_row) + r;
        let column4 = column0 / 4u + 16u * j + lane_column;
        if (row < pixels && column4 < out4) {
          let at = row * out4 + column4;
          var value = acc[(4u * i + r) * PARTS + j];
          if (params.has_bias != 0u) {
            value += bias[column4];
          }
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
  }
}
