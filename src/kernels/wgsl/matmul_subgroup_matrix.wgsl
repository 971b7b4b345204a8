// Matrix product on the matrix units of a GPU, which multiply blocks of halves and add in float32.
//
//   C[z] = op(A[z]) op(B[z]) (+ bias per column) (then ReLU) (+ C[z])        op = as it is, or transposed
//
// a and b are pairs of halves of 16 × 16 as split_halves.wgsl makes them: a [matrices, 2, row blocks, k blocks, 16, 16] of the rows of
// op(A), b likewise of the columns of op(B). Their exponents are [matrices, 16 blocks]. bias is [N], any buffer when has_bias = 0; c is
// [batch, M, N].
//
// With x = xh + xl, ah bh + ah bl + al bh is a b to 2^-22 (Ootomo and Yokota, arXiv:2203.03341): al bl is less. So k is walked three times,
// the small parts first. Matrix units may cut what they add, where float32 rounds it. A subgroup of 32 owns 64 × 64 elements of C in 16
// blocks; the two of a workgroup lie one below the other. At the end each block passes through workgroup memory, because only there its
// elements have places.
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;

const SIDE: u32 = 4u; // blocks of a subgroup, each way

struct Params {
  m: u32,
  n: u32,
  k: u32,
  a_blocks: u32, // row blocks of a matrix of a
  b_blocks: u32,
  a_stride: u32, // halves between matrices; 0 shares one
  b_stride: u32,
  a_exponents: u32, // exponents between matrices; 0 shares them
  b_exponents: u32,
  c_start: u32,
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

@group(0) @binding(0) var<storage, read> a: array<f16>;
@group(0) @binding(1) var<storage, read> b: array<f16>;
@group(0) @binding(2) var<storage, read> a_exponent: array<i32>;
@group(0) @binding(3) var<storage, read> b_exponent: array<i32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> block: array<f32, 512>; // a block for each subgroup

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// 2^exponent, from −126 to 127.
fn power(exponent: i32) -> f32 {
  return bitcast<f32>(u32(exponent + 127) << 23u);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_id) subgroup: u32,
) {
  let tile = group.x + group.y * groups.x;
  if (tile >= params.tiles) {
    return;
  }
  let z = tile / (params.column_tiles * params.row_tiles);
  let row_block = tile / params.row_step % params.row_tiles * 2u * SIDE + subgroup * SIDE;
  let k_blocks = (params.k + 15u) / 16u;
  let column_block = tile / params.column_step % params.column_tiles * SIDE;
  let a_base = z * params.a_stride + row_block * k_blocks * 256u;
  let b_base = z * params.b_stride + column_block * k_blocks * 256u;
  let stride = k_blocks * 256u; // from one row of blocks to the next

  var acc: array<Sum, SIDE * SIDE>; // [row of blocks][column of blocks]
  for (var walk = 0u; walk < 3u; walk++) {
    let a_part = a_base + select(0u, params.a_blocks * stride, walk == 0u); // low · high, high · low, high · high
    let b_part = b_base + select(0u, params.b_blocks * stride, walk == 1u);
    for (var k = 0u; k < k_blocks; k++) {
      var rows: array<Left, SIDE>;
      for (var i = 0u; i < SIDE; i++) { // @unroll
        rows[i] = subgroupMatrixLoad<Left, row_major>(&a, a_part + i * stride + k * 256u, 16u);
      }
      for (var j = 0u; j < SIDE; j++) { // @unroll
        let columns = subgroupMatrixLoad<Right, col_major>(&b, b_part + j * stride + k * 256u, 16u);
        for (var i = 0u; i < SIDE; i++) { // @unroll
          acc[SIDE * i + j] = subgroupMatrixMultiplyAccumulate(rows[i], columns, acc[SIDE * i + j]);
        }
      }
    }
  }

  let lane = index % 32u;
  for (var i = 0u; i < SIDE; i++) { // @unroll
    for (var j = 0u; j < SIDE; j++) { // @unroll
      workgroupBarrier();
      subgroupMatrixStore<row_major>(&block, subgroup * 256u, acc[SIDE * i + j], 16u);
      workgroupBarrier();
      for (var at = lane; at < 256u; at += 32u) {
        let row = 16u * (row_block + i) + at / 16u;
        let column = 16u * (column_block + j) + at % 16u;
        if (row < params.m && column < params.n) {
          let exponent = a_exponent[z * params.a_exponents + row] + b_exponent[z * params.b_exponents + column];
          let half = clamp(exponent / 2, -126, 127);
          var value = block[subgroup * 256u + at] * power(half) * power(clamp(exponent - half, -126, 127));
          if (params.has_bias != 0u) {
            value += bias[column];
          }
          if (params.relu != 0u) {
            value = select(max(value, 0.0), value, is_nan(value));
          }
          let to = params.c_start + z * params.c_stride + row * params.n + column;
          if (params.add_to_c != 0u) {
            value += c[to];
          }
          c[to] = value;
        }
      }
    }
  }
}
