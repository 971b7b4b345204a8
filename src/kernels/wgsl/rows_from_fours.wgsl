// Rows of a multiple of 4, as rows_to_fours.wgsl made them, back to rows as they are: how a product on such rows ends.
//
//   c[start + z stride + r columns + j] = x[z, r, j] (+ bias[j]) (then ReLU) (+ c)        j < columns, x [Z, in_rows, 4 in_columns]
//
// One invocation owns one vec4 of x.
struct Params {
  count: u32, // Z rows in_columns
  in_rows: u32,
  in_columns: u32, // in vec4
  rows: u32,
  columns: u32,
  start: u32,
  stride: u32,
  has_bias: u32,
  relu: u32,
  add_to_c: u32, // c += instead of c =
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  if (index >= params.count) {
    return;
  }
  let column4 = index % params.in_columns;
  let r = index / params.in_columns % params.rows;
  let z = index / params.in_columns / params.rows;
  let values = x[(z * params.in_rows + r) * params.in_columns + column4];
  let first = params.start + z * params.stride + r * params.columns;
  for (var i = 0u; i < 4u; i++) {
    let column = 4u * column4 + i;
    if (column >= params.columns) {
      return;
    }
    var value = values[i];
    if (params.has_bias != 0u) {
      value += bias[column];
    }
    if (params.relu != 0u) {
      value = select(max(value, 0.0), value, is_nan(value));
    }
    if (params.add_to_c != 0u) {
      value += c[first + column];
    }
    c[first + column] = value;
  }
}
