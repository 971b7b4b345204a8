// Rows of matrices as pairs of halves, in blocks of 16 × 16 that matrix units load at once: x ≈ 2^e (high + low).
//
//   y[z, part, row / 16, k / 16, row % 16, k % 16] = part of x[z, row, k] / 2^e[z, row]        part 0 is high, 1 is low; beyond x zero
//
// x  f32 [matrices, rows, k], through strides
// y  halves, two to a word [matrices, 2, row_blocks, k_blocks, 16, 16]; behind them e, i32 [matrices, 16 row_blocks]
//
// A half has 11 bits, so two hold 22 of the 24 bits of a float32 (Ootomo and Yokota, arXiv:2203.03341). e brings the largest number of a
// row to 2^14 … 2^15. What is then below 2^-14 becomes 0: less than 2^-28 of that largest number. An infinite number or NaN makes NaN of
// all that it takes part in. It is computed by whole numbers, because a driver was seen to take f32(f16(x)) for x.
//
// One workgroup owns 16 rows of a matrix.
override K_FIRST: bool = true; // the numbers of a row lie side by side; else those of a column do

struct Params {
  rows: u32,
  k: u32,
  start: u32, // first element of the first matrix
  row_stride: u32, // in elements, as the next two
  k_stride: u32,
  matrix_stride: u32,
  matrices: u32,
  row_blocks: u32, // of a matrix of y
  k_blocks: u32,
  exponents: u32, // word of y where e begins
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> found: array<u32, 256>;
var<workgroup> scales: array<f32, 16>; // 2^-e by row

// Without its sign, a float orders as the whole number that its bits are.
fn bits_at(matrix: u32, row: u32, k: u32) -> u32 {
  if (row >= params.rows || k >= params.k) {
    return 0u;
  }
  return bitcast<u32>(x[params.start + matrix * params.matrix_stride + row * params.row_stride + k * params.k_stride]);
}

// The nearest float with 11 bits.
fn rounded(bits: u32) -> u32 {
  return (bits + 0x1000u) & 0xffffe000u;
}

// A float with 11 bits as a half. What is too small for a normal one is 0.
fn half_of(bits: u32) -> u32 {
  let exponent = (bits >> 23u) & 0xffu;
  let sign = (bits >> 16u) & 0x8000u;
  return select(sign | ((exponent - 112u) << 10u) | ((bits >> 13u) & 0x3ffu), sign, exponent < 113u);
}

const NAN: u32 = 0x7e00u;

// The high half in the low bits, the low half in the high ones.
fn halves_of(bits: u32, scale: f32) -> u32 {
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    return NAN;
  }
  let value = bitcast<f32>(bits) * scale;
  let high = rounded(bitcast<u32>(value));
  let low = rounded(bitcast<u32>(value - bitcast<f32>(high)));
  return half_of(high) | (half_of(low) << 16u);
}

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) index: u32,
) {
  let owned = group.x + group.y * groups.x;
  if (owned >= params.matrices * params.row_blocks) {
    return;
  }
  let matrix = owned / params.row_blocks;
  let block = owned % params.row_blocks;

  // Neighbors read what lies side by side: 16 invocations share a row, or each has a row of its own.
  let row = select(index % 16u, index / 16u, K_FIRST);
  var largest = 0u;
  for (var k = select(index / 16u, index % 16u, K_FIRST); k < params.k; k += 16u) {
    largest = max(largest, bits_at(matrix, 16u * block + row, k) & 0x7fffffffu);
  }
  found[index] = largest;
  workgroupBarrier();
  if (index < 16u) {
    var most = 0u;
    for (var i = 0u; i < 16u; i++) {
      most = max(most, found[select(16u * i + index, 16u * index + i, K_FIRST)]);
    }
    let biased = min(268u - (most >> 23u), 254u);
    scales[index] = bitcast<f32>(biased << 23u);
    y[params.exponents + 16u * owned + index] = bitcast<u32>(127 - i32(biased));
  }
  workgroupBarrier();

  let part = 128u * params.row_blocks * params.k_blocks; // words
  for (var word = index; word < 128u * params.k_blocks; word += 256u) {
    let within = word % 128u;
    let r = select(within % 16u, within / 8u, K_FIRST);
    let pair = select(within / 16u, within % 8u, K_FIRST);
    let k = word / 128u * 16u + 2u * pair;
    let even = halves_of(bits_at(matrix, 16u * block + r, k), scales[r]);
    let odd = halves_of(bits_at(matrix, 16u * block + r, k + 1u), scales[r]);
    let to = (2u * matrix * params.row_blocks + block) * params.k_blocks * 128u + word / 128u * 128u + 8u * r + pair;
    y[to] = (even & 0xffffu) | (odd << 16u);
    y[to + part] = (even >> 16u) | (odd & 0xffff0000u);
  }
}
