// Rows of words by their numbers: y[r] = x[rows[r]].
//
// x [V, width], rows [count / width], y [count / width, width]. The row of an index that there is not is NaN. Elements are 32-bit words
// of any type. One invocation owns one word of y.
const UNKNOWN: u32 = 0xfffffffeu;
const NOT_A_NUMBER: u32 = 0x7fc00000u;

struct Params {
  count: u32,
  width: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let row = rows[i / params.width];
  let known = row < UNKNOWN;
  y[i] = select(NOT_A_NUMBER, x[select(0u, row, known) * params.width + i % params.width], known);
}
