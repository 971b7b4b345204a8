// Adds up the pieces of a matrix product whose inner axis was cut: how matmul_workgroup_vec4.wgsl ends then.
//
//   C[z] = Σ_s x[z, s] (+ bias per column) (then ReLU) (+ C[z])
//
// x     [batch, splits, M, N]  as vec4
// bias  [N]  (any buffer when has_bias = 0)
// c     [batch, M, N]
//
// One invocation owns one vec4 of C.
struct Params {
  count4: u32, // vec4 of all matrices
  matrix: u32, // vec4 of one
  columns: u32, // vec4 of a row
  splits: u32,
  c_start: u32, // first vec4 of the first matrix
  c_stride: u32, // between matrices, in vec4
  has_bias: u32,
  relu: u32,
  add_to_c: u32, // C += instead of C =
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> bias: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  if (index >= params.count4) {
    return;
  }
  let z = index / params.matrix;
  let within = index % params.matrix;
  var value = vec4f();
  for (var s = 0u; s < params.splits; s++) {
    value += x[(z * params.splits + s) * params.matrix + within];
  }
  if (params.has_bias != 0u) {
    value += bias[within % params.columns];
  }
  if (params.relu != 0u) {
    value = select(max(value, vec4f()), value, is_nan(value));
  }
  let at = params.c_start + z * params.c_stride + within;
  if (params.add_to_c != 0u) {
    value += c[at];
  }
  c[at] = value;
}
