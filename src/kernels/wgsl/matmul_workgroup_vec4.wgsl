// Matrix product for real GPUs: four numbers a load, large blocks in registers, and a tile of each operand in workgroup memory.
//
//   C[z, s] = op(A[z]) op(B[z]) over the s-th piece of k (+ bias per column) (then ReLU) (+ C[z, s])        op = as it is, or transposed
//
// a is [batch, M, K] or, with TRANS_A, [batch, K, M]; b is [batch, K, N] or, with TRANS_B, [batch, N, K]. bias is [N], any buffer when
// has_bias = 0; c is [batch, splits, M, N]. All are read as vec4 along the last axis, which is a multiple of 4 long.
//
// A workgroup of 16 × LANE_ROWS owns TILE × TILE elements of C, TILE = 64 PARTS, and walks K in steps of 16. An invocation owns
// ROW_PARTS × PARTS blocks of 4 × 4: one, or 16 × 8 numbers, for which 6 vec4 from workgroup memory feed 128 multiply-adds. While
// a step is computed, blocks of 4 × 4 of the next one are loaded into registers. Between two barriers they go into the tiles. Both
// tiles take 16 KiB at most, what every adapter has.
//
// docs/gpu.md has what other tiles gave on an H200. With two tiles of each operand, fewer workgroups fit a core. Neighboring lanes form
// blocks of 8 × 4, so that 32 of them read 12 vec4 a step.
//
// With few tiles most of a GPU would idle. Then K is cut into `splits` pieces, which matmul_splits.wgsl adds up.
const PARTS: u32 = 2u; // @tune 1 2
const TILE: u32 = 64u * PARTS;
const QUADS: u32 = 16u * PARTS; // vec4 in a row of a tile
const DEPTH: u32 = 16u;
const BLOCKS: u32 = 64u * PARTS; // 4 × 4 blocks in a tile
const LANE_ROWS: u32 = 16u / PARTS;
const ROW_PARTS: u32 = PARTS * PARTS;

override TRANS_A: bool = false;
override TRANS_B: bool = false;

struct Params {
  m: u32,
  n: u32,
  k: u32,
  a_start: u32, // first vec4 of the first matrix
  b_start: u32,
  c_start: u32,
  a_stride: u32, // between matrices of the batch, in vec4; 0 shares one
  b_stride: u32,
  c_stride: u32, // between matrices of c, in vec4
  has_bias: u32,
  relu: u32,
  add_to_c: u32, // C += instead of C =
  column_tiles: u32,
  row_tiles: u32,
  column_step: u32, // tiles from one column of tiles to the next: the shorter side comes first, so that its operand stays in the cache
  row_step: u32,
  tiles: u32, // of all matrices and pieces; workgroups are counted through two dimensions
  splits: u32,
  piece: u32, // k of a piece, a multiple of 16
}

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> a_tile: array<vec4f, DEPTH * QUADS>; // [k][row], four rows each
var<workgroup> b_tile: array<vec4f, DEPTH * QUADS>; // [k][column]

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// k, k + 1, k + 2, k + 3; component = row of A, or column of B.
struct Block {
  k0: vec4f,
  k1: vec4f,
  k2: vec4f,
  k3: vec4f,
}

fn turned(t0: vec4f, t1: vec4f, t2: vec4f, t3: vec4f) -> Block {
  return Block(
    vec4f(t0.x, t1.x, t2.x, t3.x),
    vec4f(t0.y, t1.y, t2.y, t3.y),
    vec4f(t0.z, t1.z, t2.z, t3.z),
    vec4f(t0.w, t1.w, t2.w, t3.w),
  );
}

// Loads only load. What lies beyond the last row, column or k is whatever is there: rows and columns are not stored, and `within` takes
// zeros for k. A select on a loaded number would wait for it here, before the step that is meant to hide the wait.

// Rows row … row + 3 of op(A).
fn a_block(base: u32, row: u32, k: u32) -> Block {
  if (TRANS_A) {
    let m4 = params.m / 4u;
    let at = base + k * m4 + row / 4u;
    return Block(a[at], a[at + m4], a[at + 2u * m4], a[at + 3u * m4]);
  }
  let k4 = params.k / 4u;
  let at = base + row * k4 + k / 4u;
  return turned(a[at], a[at + k4], a[at + 2u * k4], a[at + 3u * k4]);
}

// Columns column … column + 3 of op(B).
fn b_block(base: u32, column: u32, k: u32) -> Block {
  if (TRANS_B) {
    let k4 = params.k / 4u;
    let at = base + column * k4 + k / 4u;
    return turned(b[at], b[at + k4], b[at + 2u * k4], b[at + 3u * k4]);
  }
  let n4 = params.n / 4u;
  let at = base + k * n4 + column / 4u;
  return Block(b[at], b[at + n4], b[at + 2u * n4], b[at + 3u * n4]);
}

fn within(value: vec4f, k: u32, end: u32) -> vec4f {
  return select(vec4f(), value, k < end);
}

// Which 4 × 4 block of a tile an invocation loads: the quad of rows or columns, the first k, and the place in the tile.
struct Load {
  quad: u32,
  k: u32,
  place: u32,
}

// Neighbors load what lies side by side in memory.
fn load_of(block: u32, along_k: bool) -> Load {
  let quad = select(block % QUADS, block / (DEPTH / 4u), along_k);
  let k = 4u * select(block / QUADS, block % (DEPTH / 4u), along_k);
  return Load(quad, k, k * QUADS + quad);
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
  let z = tile / (params.column_tiles * params.row_tiles); // matrix and piece
  let matrix = z / params.splits;
  let row0 = tile / params.row_step % params.row_tiles * TILE;
  let column0 = tile / params.column_step % params.column_tiles * TILE;
  let begin = z % params.splits * params.piece;
  let end = min(begin + params.piece, params.k);
  let a_base = params.a_start + matrix * params.a_stride;
  let b_base = params.b_start + matrix * params.b_stride;
  let lane_column = index % 8u + index / 32u % 2u * 8u;
  let lane_row = index / 8u % 4u + index / 64u * 4u;

  // With 1 part, other invocations load B than A.
  let b_index = index - 64u * (2u - PARTS);
  let loads_a = PARTS > 1u || index < BLOCKS;
  let loads_b = PARTS > 1u || b_index < BLOCKS;
  let own_a = load_of(index, !TRANS_A);
  let own_b = load_of(b_index, TRANS_B);

  var acc: array<vec4f, 4u * ROW_PARTS * PARTS>; // [part of the rows][row][part of the columns]
  var a_next: Block;
  var b_next: Block;
  if (loads_a) {
    a_next = a_block(a_base, row0 + 4u * own_a.quad, begin + own_a.k);
  }
  if (loads_b) {
    b_next = b_block(b_base, column0 + 4u * own_b.quad, begin + own_b.k);
  }
  for (var k = begin; k < end; k += DEPTH) {
    workgroupBarrier(); // everybody has read the tiles of the step before
    if (loads_a) {
      a_tile[own_a.place] = within(a_next.k0, k + own_a.k, end);
      a_tile[own_a.place + QUADS] = within(a_next.k1, k + own_a.k + 1u, end);
      a_tile[own_a.place + 2u * QUADS] = within(a_next.k2, k + own_a.k + 2u, end);
      a_tile[own_a.place + 3u * QUADS] = within(a_next.k3, k + own_a.k + 3u, end);
    }
    if (loads_b) {
      b_tile[own_b.place] = within(b_next.k0, k + own_b.k, end);
      b_tile[own_b.place + QUADS] = within(b_next.k1, k + own_b.k + 1u, end);
      b_tile[own_b.place + 2u * QUADS] = within(b_next.k2, k + own_b.k + 2u, end);
      b_tile[own_b.place + 3u * QUADS] = within(b_next.k3, k + own_b.k + 3u, end);
    }
    workgroupBarrier();
    if (k + DEPTH < end) {
      if (loads_a) {
        a_next = a_block(a_base, row0 + 4u * own_a.quad, k + DEPTH + own_a.k);
      }
      if (loads_b) {
        b_next = b_block(b_base, column0 + 4u * own_b.quad, k + DEPTH + own_b.k);
      }
    }
    for (var step = 0u; step < DEPTH; step++) {
      let at = step * QUADS;
      var b_row: array<vec4f, PARTS>;
      for (var j = 0u; j < PARTS; j++) { // @unroll
        b_row[j] = b_tile[at + 16u * j + lane_column];
      }
      for (var i = 0u; i < ROW_PARTS; i++) { // @unroll
        let a_rows = a_tile[at + LANE_ROWS * i + lane_row];
        for (var r = 0u; r < 4u; r++) { // @unroll
          for (var j = 0u; j < PARTS; j++) { // @unroll
            acc[(4u * i + r) * PARTS + j] = acc[(4u * i + r) * PARTS + j] + a_rows[r] * b_row[j];
          }
        }
      }
    }
  }

  let n4 = params.n / 4u;
  for (var i = 0u; i < ROW_PARTS; i++) { // @unroll
    for (var r = 0u; r < 4u; r++) { // @unroll
      for (var j = 0u; j < PARTS; j++) { // @unroll
        let row = row0 + 4u * (LANE_ROWS * i + lane_row) + r;
        let column4 = column0 / 4u + 16u * j + lane_column;
        if (row < params.m && column4 < n4) {
          let at = params.c_start + z * params.c_stride + row * n4 + column4;
          var value = acc[(4u * i + r) * PARTS + j];
          if (params.has_bias != 0u) {
            value += bias[column4];
          }
          if (params.relu != 0u) {
            value = select(max(value, vec4f()), value, is_nan(value));
          }
          if (params.add_to_c != 0u) {
            value += c[at];
          }
          c[at] = value;
        }
      }
    }
  }
}
