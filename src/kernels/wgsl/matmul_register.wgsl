// Matrix product in registers: one invocation owns a block of ROWS × 4 elements of C.
//
//   C[z] = op(A[z]) op(B[z]) (+ bias per column) (then ReLU) (+ C[z])        op = as it is, or transposed
//
// Bindings as in matmul_naive.wgsl; any sizes. Per k an invocation loads ROWS + 4 numbers for 4 ROWS multiply-adds, against two
// loads for one there. It needs no feature, so it always works; matmul_subgroup.wgsl shares the loads between lanes.
const ROWS: u32 = 8u; // @tune 4 8

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

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = group.x + group.y * groups.x;
  if (tile >= params.tiles) {
    return;
  }
  let z = tile / (params.column_tiles * params.row_tiles);
  let row0 = (tile / params.row_step % params.row_tiles * 8u + local.y) * ROWS;
  let column0 = (tile / params.column_step % params.column_tiles * 8u + local.x) * 4u;
  if (row0 >= params.m || column0 >= params.n) {
    return;
  }
  let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u)); // edges repeat the last one
  var acc: array<vec4f, ROWS>;
  for (var k = 0u; k < params.k; k++) {
    let b_row = vec4f(b_at(z, k, columns.x), b_at(z, k, columns.y), b_at(z, k, columns.z), b_at(z, k, columns.w));
    for (var r = 0u; r < ROWS; r++) { // @unroll
      acc[r] = acc[r] + a_at(z, min(row0 + r, params.m - 1u), k) * b_row;
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    for (var j = 0u; j < 4u; j++) {
      if (row0 + r < params.m && column0 + j < params.n) {
        store(z, row0 + r, column0 + j, acc[r][j]);
      }
    }
  }
}
