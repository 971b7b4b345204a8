// One-hot rows: y[r, j] = 1 where j = id[r], else 0.
//
// id u32 [rows], y [rows, n]. The row of an id from n on is NaN. One invocation owns one number of y.
const NOT_A_NUMBER: u32 = 0x7fc00000u;
const ONE: u32 = 0x3f800000u;

struct Params {
  count: u32, // rows n
  n: u32,
}

@group(0) @binding(0) var<storage, read> id_of: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 64u;
  if (at < params.count) {
    let own = id_of[at / params.n];
    y[at] = bitcast<f32>(select(select(0u, ONE, at % params.n == own), NOT_A_NUMBER, own >= params.n));
  }
}
