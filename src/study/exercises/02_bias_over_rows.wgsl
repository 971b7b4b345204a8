// Exercise 2: one row for all rows.
//
//   c[r, j] = f(a[r, j], b[j])            f is a + b here; the launcher puts in any other
//
// a, c [rows, n]; b [n]. One invocation owns one element. A workgroup owns 64 columns of one row: id.x counts columns, and
// id.y + id.z · groups.y counts rows. A matrix lies row after row: element (r, j) is number r · n + j.
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

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y + id.z * groups.y;
  let column = id.x;
  // @hole: leave where there is no element; else write c of it: f(vec4f(a), vec4f(b)).x of its a and its b
  if (row >= params.rows || column >= params.n) {
    return;
  }
  let at = row * params.n + column;
  c[at] = f(vec4f(a_in[at]), vec4f(b_in[column])).x;
  // @end
}
