// Exercise 8: the product through workgroup memory.
//
// As exercise 6, but the 16 × 16 invocations of a workgroup need the same rows of A and columns of B. They load a 16 × 16 tile of
// each into workgroup memory, one number per invocation, and wait. Each then takes its sum over the 16 k of the tiles from there. Then
// they wait again, for nobody may overwrite a tile that another still reads. Beyond the edges a tile holds zeros.
// @tile 16 16
override TRANS_A: bool = false;
override TRANS_B: bool = false;

const TILE: u32 = 16u;

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

var<workgroup> a_tile: array<array<f32, TILE>, TILE>; // [row, k]
var<workgroup> b_tile: array<array<f32, TILE>, TILE>; // [k, column]

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

@compute @workgroup_size(TILE, TILE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = group.x + group.y * groups.x;
  if (tile >= params.tiles) {
    return; // the whole workgroup
  }
  let z = tile / (params.column_tiles * params.row_tiles);
  let column = tile / params.column_step % params.column_tiles * TILE + local.x;
  let row = tile / params.row_step % params.row_tiles * TILE + local.y;
  var sum = 0.0;
  for (var k0 = 0u; k0 < params.k; k0 += TILE) {
    // @hole: load one number of each tile, or 0 beyond the edges; wait; add the products of the 16 k; wait
    a_tile[local.y][local.x] = 0.0;
    if (row < params.m && k0 + local.x < params.k) {
      a_tile[local.y][local.x] = a_at(z, row, k0 + local.x);
    }
    b_tile[local.y][local.x] = 0.0;
    if (column < params.n && k0 + local.y < params.k) {
      b_tile[local.y][local.x] = b_at(z, k0 + local.y, column);
    }
    workgroupBarrier();
    for (var k = 0u; k < TILE; k++) {
      sum += a_tile[local.y][k] * b_tile[k][local.x];
    }
    workgroupBarrier();
    // @end
  }
  if (row < params.m && column < params.n) {
    store(z, row, column, sum);
  }
}
