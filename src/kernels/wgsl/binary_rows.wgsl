// Elementwise c = f(a, b) where b is one row that all rows of a share: a bias, or the scale of a normalization.
//
//   c[r, j] = f(a[r, j], b[j])
//
// a, c [rows, n]; b [n]. A NaN of either gives a NaN. One invocation owns one element, a workgroup 64 columns of a row: no index
// is divided. The gradient of b sums over the rows (reduce.wgsl).
struct Params {
  rows: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> a_in: array<f32>;
@group(0) @binding(1) var<storage, read> b_in: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

fn f(a: vec4f, b: vec4f) -> vec4f {
  return a + b; // @expression f
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y + id.z * groups.y;
  let column = id.x;
  if (row >= params.rows || column >= params.n) {
    return;
  }
  let at = row * params.n + column;
  let a = a_in[at];
  let b = b_in[column];
  let value = select(f(vec4f(a), vec4f(b)).x, b, is_nan(b));
  c[at] = select(value, a, is_nan(a));
}
