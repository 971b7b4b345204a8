// Gradient of unpool.wgsl: the value that a place took gets the place's dy; a value that another one replaced gets nothing.
//
//   dx[i] = dy[index[i]] where owner[index[i]] = i + 1, else 0
//
// index and dx [count]; owner [size + 1] from unpool_owners.wgsl; dy [size]. One invocation owns one element of dx.
struct Params {
  count: u32,
  size: u32,
}

@group(0) @binding(0) var<storage, read> index: array<u32>;
@group(0) @binding(1) var<storage, read> owner: array<u32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let place = index[i];
  var value = 0.0;
  if (place < params.size && owner[params.size] == 0u) {
    if (owner[place] == i + 1u) {
      value = dy[place];
    }
  }
  dx[i] = value;
}
