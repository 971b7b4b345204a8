// Matrix product for wide subgroups, 16 to 64 lanes: one subgroup owns one tile and shares the rows of A among its lanes.
//
//   C[z] = op(A[z]) op(B[z]) (+ bias per column) (then ReLU) (+ C[z])        op = as it is, or transposed
//
// Shapes, bindings and parameters as in matmul_subgroup.wgsl, whose tile of 4 WIDTH rows would not fit the registers of a
// wide subgroup. Here a workgroup is one subgroup and owns ROWS × 4 WIDTH elements. Per step of 4 k a lane loads 4 numbers of
// one row of A and a 4×4 block of B. So 5 loads serve 16 ROWS multiply-adds, without workgroup memory or barrier. It is
// written for real GPUs; on the software drivers' widths of 4 and 8 only its results are checked.
enable subgroups;

const WIDTH: u32 = 32u; // @tune 4 8 16 32 64
const ROWS: u32 = 16u; // @tune 4 8 16

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

@group(0) @binding(0) var<storage, read> a: array<vec4f>;
@group(0) @binding(1) var<storage, read> b: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
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
  let z = tile / (params.column_tiles * params.row_tiles);
  let m = params.m;
  let n = params.n;
  let k_count = params.k;
  let row0 = tile / params.row_step % params.row_tiles * ROWS;
  let column = (tile / params.column_step % params.column_tiles * WIDTH + lane) * 4u;
  let column4 = min(column, n - 4u) / 4u; // lanes beyond the edge repeat the last columns and store nothing
  let row = min(row0 + lane % ROWS, m - 1u);
  let a_base = params.a_start + z * params.a_stride;
  let b_base = params.b_start + z * params.b_stride;
  let m4 = m / 4u;
  let n4 = n / 4u;
  let k4 = k_count / 4u;

  var acc: array<vec4f, ROWS>;
  for (var k = 0u; k < k_count; k += 4u) {
    var a_row: vec4f; // this lane's row, component = k
    if (TRANS_A) {
      let at = a_base + k * m4 + row / 4u;
      let last = a_base + (k_count - 1u) * m4 + row / 4u;
      a_row.x = a[at][row % 4u];
      a_row.y = select(0.0, a[min(at + m4, last)][row % 4u], k + 1u < k_count); // beyond the last k there is nothing to add
      a_row.z = select(0.0, a[min(at + 2u * m4, last)][row % 4u], k + 2u < k_count);
      a_row.w = select(0.0, a[min(at + 3u * m4, last)][row % 4u], k + 3u < k_count);
    } else {
      a_row = a[a_base + row * k4 + k / 4u];
    }
    var b0: vec4f; // k, component = column
    var b1: vec4f;
    var b2: vec4f;
    var b3: vec4f;
    if (TRANS_B) {
      let at = b_base + 4u * column4 * k4 + k / 4u;
      let t0 = b[at];
      let t1 = b[at + k4];
      let t2 = b[at + 2u * k4];
      let t3 = b[at + 3u * k4];
      b0 = vec4f(t0.x, t1.x, t2.x, t3.x);
      b1 = vec4f(t0.y, t1.y, t2.y, t3.y);
      b2 = vec4f(t0.z, t1.z, t2.z, t3.z);
      b3 = vec4f(t0.w, t1.w, t2.w, t3.w);
    } else {
      let at = b_base + k * n4 + column4;
      let last = b_base + (k_count - 1u) * n4 + column4;
      b0 = b[at];
      b1 = b[min(at + n4, last)];
      b2 = b[min(at + 2u * n4, last)];
      b3 = b[min(at + 3u * n4, last)];
    }
    for (var r = 0u; r < ROWS; r++) { // @unroll
      acc[r] = acc[r] + subgroupShuffle(a_row.x, r) * b0 + subgroupShuffle(a_row.y, r) * b1 + subgroupShuffle(a_row.z, r) * b2 + subgroupShuffle(a_row.w, r) * b3;
    }
  }

  // The epilogue runs once, so its loop stays rolled over a copy: written out, it would take long to compile.
  var block: array<vec4f, ROWS>;
  for (var r = 0u; r < ROWS; r++) { // @unroll
    block[r] = acc[r];
  }
  if (column >= n) {
    return;
  }
  var start = vec4f();
  if (params.has_bias != 0u) {
    start = bias[column4];
  }
  for (var r = 0u; r < min(ROWS, m - row0); r++) {
    let at = params.c_start + z * params.c_stride + (row0 + r) * n4 + column4;
    var value = block[r] + start;
    if (params.relu != 0u) {
      value = select(max(value, vec4f()), value, is_nan(value));
    }
    if (params.add_to_c != 0u) {
      value += c[at];
    }
    c[at] = value;
  }
}
