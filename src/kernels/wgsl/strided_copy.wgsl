// Copies elements between two strided views: transpose, slice, concat, broadcast and all their gradients.
//
//   to[to_start + Σ index · to_strides] = from[from_start + Σ index · from_strides]      for every index of shape[]
//
// Elements are 32-bit words of any type. One invocation owns one element.
struct Params {
  count: u32,
  rank: u32,
  from_start: u32,
  to_start: u32,
  shape: array<vec4<u32>, 2>,
  from_strides: array<vec4<u32>, 2>,
  to_strides: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<storage, read> from_words: array<u32>;
@group(0) @binding(1) var<storage, read_write> to_words: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  var rest = i;
  var from_at = params.from_start;
  var to_at = params.to_start;
  for (var step = 1u; step <= params.rank; step++) {
    let axis = params.rank - step;
    let extent = params.shape[axis / 4u][axis % 4u];
    let index = rest % extent;
    rest /= extent;
    from_at += index * params.from_strides[axis / 4u][axis % 4u];
    to_at += index * params.to_strides[axis / 4u][axis % 4u];
  }
  to_words[to_at] = from_words[from_at];
}
