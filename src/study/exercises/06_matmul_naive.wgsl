// Exercise 6: the matrix product as it is defined.
//
//   C[z] = op(A[z]) op(B[z]) (+ bias per column) (then ReLU) (+ C[z])        op = as it is, or transposed
//
// op(A) [M, K]: A is stored [M, K] or, with TRANS_A, [K, M]. op(B) [K, N]: B is stored [K, N] or, with TRANS_B, [N, K]. One invocation
// owns one element of C, a workgroup 8 × 8 of them. `select(no, yes, condition)` gives its second argument where the condition holds.
// @tile 8 8
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
  column_step: u32, // tiles from one column of tiles to the next
  row_step: u32,
  tiles: u32, // of all matrices
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// op(A)[row, k] and op(B)[k, column] of matrix z.
fn a_at(z: u32, row: u32, k: u32) -> f32 {
  let first = params.a_start + z * params.a_stride;
  var at = 0u;
  // @hole: the place of op(A)[row, k] within a matrix, transposed and not
  at = select(row * params.k + k, k * params.m + row, TRANS_A);
  // @end
  return a[first + at];
}

fn b_at(z: u32, k: u32, column: u32) -> f32 {
  let first = params.b_start + z * params.b_stride;
  var at = 0u;
  // @hole: the place of op(B)[k, column]
  at = select(k * params.n + column, column * params.k + k, TRANS_B);
  // @end
  return b[first + at];
}

fn store(z: u32, row: u32, column: u32, sum: f32) {
  let at = params.c_start + z * params.c_stride + row * params.n + column;
  var value = sum;
  if (params.has_bias != 0u) {
    value += bias[column];
  }
  if (params.relu != 0u) {
    value = max(value, 0.0);
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
  let column = tile / params.column_step % params.column_tiles * 8u + local.x;
  let row = tile / params.row_step % params.row_tiles * 8u + local.y;
  if (column >= params.n || row >= params.m) {
    return;
  }
  var sum = 0.0;
  // @hole: the sum over k
  for (var k = 0u; k < params.k; k++) {
    sum += a_at(z, row, k) * b_at(z, k, column);
  }
  // @end
  store(z, row, column, sum);
}
