// Matrix product as matmul_subgroup.wgsl, reading A and B as texels: one subgroup owns ROWS × TILE elements of C.
//
//   C[z] = op(A[z]) op(B[z]) (+ bias per column) (then ReLU) (+ C[z])        op = as it is, or transposed
//
// Shapes as there. The recorder copies A and B into textures just before (src/gpu/texels.ts), rows of the matrix as rows of
// the texture. lavapipe fetches a texel for all lanes at once, but a buffer's elements lane by lane. A tile reads ROWS rows of A
// side by side. Rows a power of two apart would push one another out of the cache, so textures are laid out otherwise.
//
// With PARTS = 2 a tile has two blocks of columns: what a lane loads of A, and shuffles, serves twice as many multiplications.
// Fewer ROWS suit products of few rows, as in a step of a recurrent layer. With b_panel, B lies in panels (column_panels.wgsl),
// for weights that are used again and again. What a tile reads of B then lies together, and the processor fetches it ahead.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const PARTS: u32 = 1u; // @tune 1 2
const TILE: u32 = 4u * WIDTH * PARTS; // columns
const ROWS: u32 = 32u; // @tune 8 16 32

override TRANS_A: bool = false;
override TRANS_B: bool = false;

struct Params {
  m: u32,
  n: u32,
  k: u32,
  a_rows: u32, // stored rows between matrices of the batch; 0 shares one
  b_rows: u32,
  b_panel: u32, // stored rows from one panel of B (column_panels.wgsl) to the next; 0 where B lies as it is
  c_stride: u32, // between matrices of the batch, in vec4
  c_start: u32,
  has_bias: u32,
  relu: u32,
  add_to_c: u32, // C += instead of C =
  column_tiles: u32,
  row_tiles: u32,
  column_step: u32, // tiles from one column of tiles to the next: the shorter side comes first, so that its operand stays in the cache
  row_step: u32,
  a_row: u32, // vec4 in a stored row of A
  a_row_mask: u32,
  a_row_shift: u32,
  a_x_mask: u32,
  a_x_shift: u32,
  b_row: u32, // vec4 in a stored row of B
  b_row_mask: u32,
  b_row_shift: u32,
  b_x_mask: u32,
  b_x_shift: u32,
  tiles: u32, // of all matrices; workgroups are counted through two dimensions
}

@group(0) @binding(0) var a: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var b_texels: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

// Where stored row r of A begins, and vec4 `column` of that row. Both layouts of src/gpu/texels.ts are served by masks and
// shifts: rows of the matrix in rows of the texture, or all texels one after another.
fn a_origin(r: u32) -> vec2u {
  return vec2u((r & params.a_row_mask) * params.a_row, r >> params.a_row_shift);
}

fn a_at(origin: vec2u, column: u32) -> vec4f {
  let x = origin.x + column;
  return textureLoad(a, vec2u(x & params.a_x_mask, origin.y + (x >> params.a_x_shift)));
}

fn b_origin(r: u32) -> vec2u {
  return vec2u((r & params.b_row_mask) * params.b_row, r >> params.b_row_shift);
}

fn b_at(origin: vec2u, column: u32) -> vec4f {
  let x = origin.x + column;
  return textureLoad(b_texels, vec2u(x & params.b_x_mask, origin.y + (x >> params.b_x_shift)));
}

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
  let column = tile / params.column_step % params.column_tiles * TILE + 4u * lane;
  // Of each part, the first stored row and the column. Lanes beyond the edge repeat the last columns and store nothing.
  var firsts: array<u32, PARTS>;
  var columns4: array<u32, PARTS>;
  for (var p = 0u; p < PARTS; p++) { // @unroll
    firsts[p] = z * params.b_rows;
    columns4[p] = min(column + 4u * WIDTH * p, n - 4u) / 4u;
    if (params.b_panel != 0u) {
      firsts[p] = columns4[p] / WIDTH * params.b_panel;
      columns4[p] = columns4[p] % WIDTH;
    }
  }
  let rows = min(vec4u(row0 + 4u * lane) + vec4u(0u, 1u, 2u, 3u), vec4u(m - 1u));
  let row4 = min(row0 + 4u * lane, m - 1u) / 4u;
  let n4 = n / 4u;
  let a_first = z * params.a_rows;
  // The rows that this lane reads at every step, of an operand that is not transposed that way.
  let a_row0 = a_origin(a_first + rows.x);
  let a_row1 = a_origin(a_first + rows.y);
  let a_row2 = a_origin(a_first + rows.z);
  let a_row3 = a_origin(a_first + rows.w);
  var b_rows: array<vec2u, 4u * PARTS>;
  for (var p = 0u; p < PARTS; p++) { // @unroll
    for (var i = 0u; i < 4u; i++) { // @unroll
      b_rows[4u * p + i] = b_origin(firsts[p] + 4u * columns4[p] + i);
    }
  }

  var acc: array<vec4f, ROWS * PARTS>;
  for (var k = 0u; k < k_count; k += 4u) {
    let ks = min(vec4u(k) + vec4u(0u, 1u, 2u, 3u), vec4u(k_count - 1u));
    var a0: vec4f; // k, component = row
    var a1: vec4f; // k + 1
    var a2: vec4f;
    var a3: vec4f;
    if (TRANS_A) {
      a0 = a_at(a_origin(a_first + ks.x), row4);
      a1 = select(vec4f(), a_at(a_origin(a_first + ks.y), row4), vec4<bool>(k + 1u < k_count)); // beyond the last k there is nothing to add
      a2 = select(vec4f(), a_at(a_origin(a_first + ks.z), row4), vec4<bool>(k + 2u < k_count));
      a3 = select(vec4f(), a_at(a_origin(a_first + ks.w), row4), vec4<bool>(k + 3u < k_count));
    } else {
      let t0 = a_at(a_row0, k / 4u);
      let t1 = a_at(a_row1, k / 4u);
      let t2 = a_at(a_row2, k / 4u);
      let t3 = a_at(a_row3, k / 4u);
      a0 = vec4f(t0.x, t1.x, t2.x, t3.x);
      a1 = vec4f(t0.y, t1.y, t2.y, t3.y);
      a2 = vec4f(t0.z, t1.z, t2.z, t3.z);
      a3 = vec4f(t0.w, t1.w, t2.w, t3.w);
    }
    var b: array<vec4f, 4u * PARTS>; // four k of each part, component = column
    for (var p = 0u; p < PARTS; p++) { // @unroll
      if (TRANS_B) {
        let t0 = b_at(b_rows[4u * p], k / 4u);
        let t1 = b_at(b_rows[4u * p + 1u], k / 4u);
        let t2 = b_at(b_rows[4u * p + 2u], k / 4u);
        let t3 = b_at(b_rows[4u * p + 3u], k / 4u);
        b[4u * p] = vec4f(t0.x, t1.x, t2.x, t3.x);
        b[4u * p + 1u] = vec4f(t0.y, t1.y, t2.y, t3.y);
        b[4u * p + 2u] = vec4f(t0.z, t1.z, t2.z, t3.z);
        b[4u * p + 3u] = vec4f(t0.w, t1.w, t2.w, t3.w);
      } else {
        for (var i = 0u; i < 4u; i++) { // @unroll
          b[4u * p + i] = b_at(b_origin(firsts[p] + ks[i]), columns4[p]);
        }
      }
    }
    for (var r = 0u; r < ROWS; r++) { // @unroll
      let s0 = subgroupShuffle(a0[r % 4u], r / 4u);
      let s1 = subgroupShuffle(a1[r % 4u], r / 4u);
      let s2 = subgroupShuffle(a2[r % 4u], r / 4u);
      let s3 = subgroupShuffle(a3[r % 4u], r / 4u);
      for (var p = 0u; p < PARTS; p++) { // @unroll
        acc[r * PARTS + p] = acc[r * PARTS + p] + s0 * b[4u * p] + s1 * b[4u * p + 1u] + s2 * b[4u * p + 2u] + s3 * b[4u * p + 3u];
      }
    }
  }

  // The epilogue runs once, so its loop stays rolled over a copy: written out, it would take long to compile.
  var block: array<vec4f, ROWS * PARTS>;
  for (var r = 0u; r < ROWS * PARTS; r++) { // @unroll
    block[r] = acc[r];
  }
  for (var p = 0u; p < PARTS; p++) {
    let column4 = column / 4u + WIDTH * p;
    if (column4 >= n4) {
      return;
    }
    var start = vec4f();
    if (params.has_bias != 0u) {
      start = bias[column4];
    }
    for (var r = 0u; r < min(ROWS, m - row0); r++) {
      let at = params.c_start + z * params.c_stride + (row0 + r) * n4 + column4;
      var value = block[r * PARTS + p] + start;
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
