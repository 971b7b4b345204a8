// What a scatter starts from: y = x, or `fill` everywhere if there is an index that selects no row.
//
// x, y [count]; keys: the sorted rows of `updates` updates (row_ids.wgsl), of which unknown ones stand last. Elements are 32-bit
// words of any type. One invocation owns one word.
const UNKNOWN: u32 = 0xfffffffeu;

struct Params {
  count: u32,
  updates: u32,
  fill: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count) {
    y[i] = select(params.fill, x[i], keys[params.updates - 1u] < UNKNOWN);
  }
}
