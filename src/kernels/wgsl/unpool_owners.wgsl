// Unpooling, step 1: which value each place of the result gets. Of several values for one place, the last one wins.
//
//   owner[index[i]] = the largest i + 1; owner[size] = 1 if an index is not below size
//
// index [count]; owner [size + 1], cleared before. Step 2: unpool.wgsl. One invocation owns one index.
struct Params {
  count: u32,
  size: u32,
}

@group(0) @binding(0) var<storage, read> index: array<u32>;
@group(0) @binding(1) var<storage, read_write> owner: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let place = index[i];
  if (place < params.size) {
    atomicMax(&owner[place], i + 1u);
  } else {
    atomicMax(&owner[params.size], 1u);
  }
}
