// Exercise 7: the product in registers.
//
// As exercise 6, but one invocation owns 4 × 4 elements of C. Per k it loads 4 numbers of A and 4 of B for 16 multiply-adds: half a load
// each, instead of two. The sums of row r are the vec4 acc[r]. A workgroup of 8 × 8 invocations owns 32 × 32 elements.
// @tile 32 32
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

// op(A)[row, k] and op(B)[k, column] of matrix z; callers keep the indices in range.
fn a_at(z: u32, row: u32, k: u32) -> f32 {
  return a[params.a_start + z * params.a_stride + select(row * params.k + k, k * params.m + row, TRANS_A)];
}

fn b_at(z: u32, k: u32, column: u32) -> f32 {
  return b[params.b_start + z * params.b_stride + select(k * params.n + column, column * params.k + k, TRANS_B)];
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
  let column0 = (tile / params.column_step % params.column_tiles * 8u + local.x) * 4u;
  let row0 = (tile / params.row_step % params.row_tiles * 8u + local.y) * 4u;
  if (column0 >= params.n || row0 >= params.m) {
    return;
  }
  // At the edges an index beyond the last one repeats it: what it makes is not stored.
  let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(params.n - 1u));
  var acc: array<vec4f, 4>;
  for (var k = 0u; k < params.k; k++) {
    let b_row = vec4f(b_at(z, k, columns.x), b_at(z, k, columns.y), b_at(z, k, columns.z), b_at(z, k, columns.w));
    // @hole: add to each of the four rows; rows beyond the last one repeat it
    for (var r = 0u; r < 4u; r++) { // @unroll
      acc[r] = acc[r] + a_at(z, min(row0 + r, params.m - 1u), k) * b_row;
    }
    // @end
  }
  for (var r = 0u; r < 4u; r++) {
    for (var j = 0u; j < 4u; j++) {
      if (row0 + r < params.m && column0 + j < params.n) {
        store(z, row0 + r, column0 + j, acc[r][j]);
      }
    }
  }
}
