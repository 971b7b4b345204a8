// Matrices whose rows are no multiple of 4 long, copied to rows that are, for kernels that read four numbers at a time.
//
//   y[z, r, c] = x[start + z stride + r columns + c] where r < rows and c < columns, else 0        y [Z, out_rows, 4 out_columns]
//
// The zeros let a product run on beyond the end: they add nothing. One invocation owns one vec4 of y.
struct Params {
  count: u32, // Z out_rows out_columns
  out_rows: u32,
  out_columns: u32, // in vec4
  rows: u32,
  columns: u32,
  start: u32,
  stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  if (index >= params.count) {
    return;
  }
  let column = 4u * (index % params.out_columns);
  let r = index / params.out_columns % params.out_rows;
  let z = index / params.out_columns / params.out_rows;
  var value = vec4f();
  if (r < params.rows) {
    let at = params.start + z * params.stride + r * params.columns + column;
    for (var i = 0u; i < min(4u, params.columns - min(column, params.columns)); i++) {
      value[i] = x[at + i];
    }
  }
  y[index] = value;
}
