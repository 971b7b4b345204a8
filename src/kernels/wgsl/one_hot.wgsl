// One-hot lines: y[o, j, i] = `on` where j = id[o, i], else `off`.
//
// id u32 [outer, inner], y [outer, n, inner]. The line of an id from n on is NaN. One invocation owns one number of y.
const NOT_A_NUMBER: u32 = 0x7fc00000u;

struct Params {
  count: u32, // outer n inner
  n: u32,
  inner: u32,
  on: f32,
  off: f32,
}

@group(0) @binding(0) var<storage, read> id_of: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 64u;
  if (at < params.count) {
    let row = at / params.inner;
    let own = id_of[row / params.n * params.inner + at % params.inner];
    let bits = select(bitcast<u32>(params.off), bitcast<u32>(params.on), row % params.n == own);
    y[at] = bitcast<f32>(select(bits, NOT_A_NUMBER, own >= params.n));
  }
}
