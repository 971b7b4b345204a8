// A triangle of each matrix: y[…, r, c] = x[…, r, c] where c − r ≥ diagonal, or with LOWER ≤ diagonal; else 0.
//
// x, y [batch, rows, columns], count words of any type. One invocation owns one word.
override LOWER: bool = false;

struct Params {
  count: u32,
  rows: u32,
  columns: u32,
  diagonal: i32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let offset = i32(i % params.columns) - i32(i / params.columns % params.rows);
  y[i] = select(0u, x[i], select(offset >= params.diagonal, offset <= params.diagonal, LOWER));
}
