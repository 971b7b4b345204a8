// Running sums, the last step: adds to each number what stands before its block.
//
// y [outer, n, inner]; offsets [outer, blocks, inner] from scan.wgsl. One invocation owns one number.
override REVERSE: bool = false;

struct Params {
  count: u32,
  n: u32,
  inner: u32,
  blocks: u32,
  chunk: u32,
}

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> offsets: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let along = i / params.inner % params.n;
  let block = select(along, params.n - 1u - along, REVERSE) / params.chunk;
  if (block > 0u) {
    y[i] += offsets[(i / params.inner / params.n * params.blocks + block) * params.inner + i % params.inner];
  }
}
