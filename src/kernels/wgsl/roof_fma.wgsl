// The arithmetic roof: chains of multiply-adds that no memory access delays.
//
// y [invocations] receives a value so that nothing is dropped. Twelve independent accumulators hide the latency of an addition;
// sixteen rounds are written out so that the loop costs little. One invocation owns one number of y and makes
// 12 · ROUNDS · LOOPS multiply-adds, two operations each. There is no gradient: it measures.
const ROUNDS: u32 = 16u;
const LOOPS: u32 = 128u; // constant, so that no driver has to mask the lanes that may have left the loop

struct Params {
  count: u32,
  start: f32,
}

@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let own = id.x + id.y * groups.x * 64u;
  let f = f32(own) * 1e-6;
  let start = params.start;
  var a0 = start;
  var a1 = start + 0.1;
  var a2 = start + 0.2;
  var a3 = start + 0.3;
  var a4 = start + 0.4;
  var a5 = start + 0.5;
  var a6 = start + 0.6;
  var a7 = start + 0.7;
  var a8 = start + 0.8;
  var a9 = start + 0.9;
  var a10 = start + 1.0;
  var a11 = start + 1.1;
  let c = 0.5;
  for (var i = 0u; i < LOOPS; i++) {
    for (var r = 0u; r < ROUNDS; r++) { // @unroll
      a0 = a0 * f + c;
      a1 = a1 * f + c;
      a2 = a2 * f + c;
      a3 = a3 * f + c;
      a4 = a4 * f + c;
      a5 = a5 * f + c;
      a6 = a6 * f + c;
      a7 = a7 * f + c;
      a8 = a8 * f + c;
      a9 = a9 * f + c;
      a10 = a10 * f + c;
      a11 = a11 * f + c;
    }
  }
  if (own < params.count) {
    y[own] = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
  }
}
