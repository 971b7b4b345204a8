// Matrix product as matmul_subgroup.wgsl, in steps of 2 k instead of 4, for narrow subgroups: one subgroup owns one tile.
//
//   C[z] = op(A[z]) op(B[z]) (+ bias per column) (then ReLU) (+ C[z])        op = as it is, or transposed
//
// Shapes and parameters as there, but A and B are read as pairs. Written for SwiftShader, which runs long loop bodies slowly,
// and a broadcast from a known lane faster than a shuffle.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const TILE: u32 = 4u * WIDTH;

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

@group(0) @binding(0) var<storage, read> a: array<vec2f>;
@group(0) @binding(1) var<storage, read> b: array<vec2f>;
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
  let row0 = tile / params.row_step % params.row_tiles * TILE;
  let row = row0 + 4u * lane;
  let column = tile / params.column_step % params.column_tiles * TILE + 4u * lane;
  let column4 = min(column, n - 4u) / 4u; // lanes beyond the edge repeat the last columns and store nothing
  let a_base = 2u * (params.a_start + z * params.a_stride);
  let b_base = 2u * (params.b_start + z * params.b_stride);
  let m2 = m / 2u;
  let n2 = n / 2u;
  let n4 = n / 4u;
  let k2 = k_count / 2u;
  let rows = a_base + select(min(vec4u(row) + vec4u(0u, 1u, 2u, 3u), vec4u(m - 1u)) * k2, vec4u(min(row, m - 4u) / 2u), TRANS_A);
  let columns = b_base + select(2u * column4, 4u * column4 * k2, TRANS_B);

  var acc: array<vec4f, TILE>;
  let steps = (k_count + 1u) / 2u;
  for (var step = 0u; step < steps; step++) {
    var a0: vec4f; // k, component = row
    var a1: vec4f; // k + 1
    var b0: vec4f; // k, component = column
    var b1: vec4f;
    // An odd last k (only with TRANS_A) has no k + 1: row k of B comes again, times zero.
    let next = select(1u, 0u, TRANS_A && 2u * step + 1u == k_count);
    if (TRANS_A) {
      let at = rows.x + 2u * step * m2;
      a0 = vec4f(a[at], a[at + 1u]);
      a1 = select(vec4f(), vec4f(a[at + next * m2], a[at + next * m2 + 1u]), vec4<bool>(next == 1u));
    } else {
      let t0 = a[rows.x + step];
      let t1 = a[rows.y + step];
      let t2 = a[rows.z + step];
      let t3 = a[rows.w + step];
      a0 = vec4f(t0.x, t1.x, t2.x, t3.x);
      a1 = vec4f(t0.y, t1.y, t2.y, t3.y);
    }
    if (TRANS_B) {
      let at = columns + step;
      let t0 = b[at];
      let t1 = b[at + k2];
      let t2 = b[at + 2u * k2];
      let t3 = b[at + 3u * k2];
      b0 = vec4f(t0.x, t1.x, t2.x, t3.x);
      b1 = vec4f(t0.y, t1.y, t2.y, t3.y);
    } else {
      let at = columns + 2u * step * n2;
      b0 = vec4f(b[at], b[at + 1u]);
      b1 = vec4f(b[at + next * n2], b[at + next * n2 + 1u]);
    }
    for (var r = 0u; r < TILE; r++) { // @unroll broadcast
      acc[r] = fma(vec4f(subgroupShuffle(a1[r % 4u], r / 4u)), b1, fma(vec4f(subgroupShuffle(a0[r % 4u], r / 4u)), b0, acc[r]));
    }
  }

  // The epilogue runs once, so its loop stays rolled over a copy: written out, it would take long to compile.
  var block: array<vec4f, TILE>;
  for (var r = 0u; r < TILE; r++) { // @unroll
    block[r] = acc[r];
  }
  if (column >= n) {
    return;
  }
  var start = vec4f();
  if (params.has_bias != 0u) {
    start = bias[column4];
  }
  for (var r = 0u; r < min(TILE, m - row0); r++) {
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
