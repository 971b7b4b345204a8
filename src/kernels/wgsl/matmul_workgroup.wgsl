// Matrix product with tiles in workgroup memory, the classic for real GPUs: one workgroup owns 64 × 64 elements of C.
//
//   C[z] = op(A[z]) op(B[z]) (+ bias per column) (then ReLU) (+ C[z])        op = as it is, or transposed
//
// Bindings as in matmul_naive.wgsl; any sizes. A workgroup of 16 × 16 walks K in steps of 16: all load one tile of A and B
// together, then each invocation adds 16 outer products to its own 4 × 4 block. A number loaded from memory serves 64
// multiply-adds. On a software driver barriers and workgroup memory cost more than they save.
const TILE: u32 = 64u;
const DEPTH: u32 = 16u;

override TRANS_A: bool = false;
override TRANS_B: bool = false;

struct Params {
  m: u32,
  n: u32,
  k: u32,
  a_start: u32, // first element of the first matrix
  b_start: u32,
  c_start: u32,
  a_stride: u32, // between matrices of the batch; 0 shares one
  b_stride: u32,
  c_stride: u32,
  has_bias: u32,
  relu: u32,
  add_to_c: u32, // C += instead of C =
  column_tiles: u32,
  row_tiles: u32,
  column_step: u32, // tiles from one column of tiles to the next: the shorter side comes first, so that its operand stays in the cache
  row_step: u32,
  tiles: u32, // of all matrices; workgroups are counted through two dimensions
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// op(A)[row, k] and op(B)[k, column] of matrix z; callers keep the indices in range.
fn a_at(z: u32, row: u32, k: u32) -> f32 {
  return a[params.a_start + z * params.a_stride + select(row * params.k + k, k * params.m + row, TRANS_A)];
}

fn b_at(z: u32, k: u32, column: u32) -> f32 {
  return b[params.b_start + z * params.b_stride + select(k * params.n + column, column * params.k + k, TRANS_B)];
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn store(z: u32, row: u32, column: u32, sum: f32) {
  let at = params.c_start + z * params.c_stride + row * params.n + column;
  var value = sum;
  if (params.has_bias != 0u) {
    value += bias[column];
  }
  if (params.relu != 0u) {
    value = select(max(value, 0.0), value, is_nan(value));
  }
  if (params.add_to_c != 0u) {
    value += c[at];
  }
  c[at] = value;
}

var<workgroup> a_tile: array<f32, TILE * DEPTH>; // [k][row]
var<workgroup> b_tile: array<f32, TILE * DEPTH>; // [k][column]

@compute @workgroup_size(16, 16)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_id) local: vec3u,
  @builtin(local_invocation_index) index: u32,
) {
  let tile = group.x + group.y * groups.x;
  if (tile >= params.tiles) {
    return;
  }
  let z = tile / (params.column_tiles * params.row_tiles);
  let row0 = tile / params.row_step % params.row_tiles * TILE;
  let column0 = tile / params.column_step % params.column_tiles * TILE;
  var acc: array<vec4f, 4>;
  for (var k0 = 0u; k0 < params.k; k0 += DEPTH) {
    for (var i = index; i < TILE * DEPTH; i += 256u) {
      let k = k0 + i / TILE;
      let inside = k < params.k; // beyond the last k there is nothing to add
      let safe_k = min(k, params.k - 1u);
      a_tile[i] = select(0.0, a_at(z, min(row0 + i % TILE, params.m - 1u), safe_k), inside);
      b_tile[i] = select(0.0, b_at(z, safe_k, min(column0 + i % TILE, params.n - 1u)), inside);
    }
    workgroupBarrier();
    for (var k = 0u; k < DEPTH; k++) {
      let at = k * TILE + 4u * local.x;
      let b_row = vec4f(b_tile[at], b_tile[at + 1u], b_tile[at + 2u], b_tile[at + 3u]);
      for (var r = 0u; r < 4u; r++) { // @unroll
        acc[r] = acc[r] + a_tile[k * TILE + 4u * local.y + r] * b_row;
      }
    }
    workgroupBarrier();
  }
  for (var r = 0u; r < 4u; r++) {
    for (var j = 0u; j < 4u; j++) {
      let row = row0 + 4u * local.y + r;
      let column = column0 + 4u * local.x + j;
      if (row < params.m && column < params.n) {
        store(z, row, column, acc[r][j]);
      }
    }
  }
}
