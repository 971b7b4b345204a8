// Gradient of a scatter with respect to the updates: dupdates[u] = dy[row of u] if the update shows in y, else 0.
//
// dy [V, width]; keys, places [U or more]: as in scatter_rows.wgsl; dupdates [U, width]. With ALL, every update shows, as those of a
// sum do; else only the last one of each row. None shows if an index selects no row. One invocation owns one number.
const UNKNOWN: u32 = 0xfffffffeu;

override ALL: bool = false;

struct Params {
  count: u32, // U width
  updates: u32, // U
  width: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> dupdates: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let own = i / params.width;
  let e = i % params.width;
  let row = keys[own];
  let is_last = own + 1u == params.updates || keys[min(own + 1u, params.updates - 1u)] != row;
  let shows = keys[params.updates - 1u] < UNKNOWN && (ALL || is_last);
  dupdates[places[own] * params.width + e] = select(0.0, dy[select(0u, row, shows) * params.width + e], shows);
}
