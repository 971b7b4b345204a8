// Elementwise c = f(a, b) with broadcasting: a stride of 0 repeats an operand along an axis.
//
// c is dense with `rank` axes of extents shape[]; a and b are read through strides. A NaN of either gives a NaN. One invocation
// owns one element. The gradient sums over the repeated axes (reduce.wgsl).
struct Params {
  count: u32,
  rank: u32,
  shape: array<vec4<u32>, 2>,
  a_strides: array<vec4<u32>, 2>,
  b_strides: array<vec4<u32>, 2>,
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
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  var rest = i;
  var a_at = 0u;
  var b_at = 0u;
  for (var step = 1u; step <= params.rank; step++) {
    let axis = params.rank - step;
    let extent = params.shape[axis / 4u][axis % 4u];
    let index = rest % extent;
    rest /= extent;
    a_at += index * params.a_strides[axis / 4u][axis % 4u];
    b_at += index * params.b_strides[axis / 4u][axis % 4u];
  }
  let a = a_in[a_at];
  let b = b_in[b_at];
  let value = select(f(vec4f(a), vec4f(b)).x, b, is_nan(b));
  c[i] = select(value, a, is_nan(a));
}
