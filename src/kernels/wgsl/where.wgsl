// Elementwise c = a where a condition holds, else b, with broadcasting.
//
// c is dense with `rank` axes of extents shape[]; condition, a and b are read through strides, 0 along an axis that repeats. All
// that is not 0 is true, a NaN too. What is not chosen does not matter, even if it is a NaN. One invocation owns one element.
struct Params {
  count: u32,
  rank: u32,
  shape: array<vec4<u32>, 2>,
  condition_strides: array<vec4<u32>, 2>,
  a_strides: array<vec4<u32>, 2>,
  b_strides: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<storage, read> condition: array<u32>; // the bits of numbers
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> c: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  var rest = i;
  var condition_at = 0u;
  var a_at = 0u;
  var b_at = 0u;
  for (var step = 1u; step <= params.rank; step++) {
    let axis = params.rank - step;
    let extent = params.shape[axis / 4u][axis % 4u];
    let index = rest % extent;
    rest /= extent;
    condition_at += index * params.condition_strides[axis / 4u][axis % 4u];
    a_at += index * params.a_strides[axis / 4u][axis % 4u];
    b_at += index * params.b_strides[axis / 4u][axis % 4u];
  }
  let holds = (condition[condition_at] & 0x7fffffffu) != 0u;
  if (holds) {
    c[i] = a[a_at];
  } else {
    c[i] = b[b_at];
  }
}
