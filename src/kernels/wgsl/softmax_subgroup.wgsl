// Softmax and log-softmax over rows: one subgroup, which is a workgroup, owns one row.
//
//   y = exp(x − max) / Σ exp(x − max)     or, with LOG,   y = x − max − log Σ exp(x − max)
//
// x, y [rows, n] as vec4, n a multiple of 4. Loads of four, no workgroup memory, no barrier. Maximum and sum come from one pass
// (Milakov and Gimelshein 2018): CHUNK loads at a time, the sum so far is brought to the new maximum once per chunk. So a row is
// read twice, not three times. Gradient: softmax_grad.wgsl.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const CHUNK: u32 = 2u;

override LOG: bool = false;

struct Params {
  rows: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// SwiftShader's exp of a NaN is infinite, its logarithm a number.
fn exp_or_nan(x: vec4f) -> vec4f {
  return select(exp(x), x, is_nan(x));
}

fn log_or_nan(x: f32) -> f32 {
  return select(log(x), x, is_nan(vec4f(x)).x);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) {
    return;
  }
  let n4 = params.n / 4u;
  let base = row * n4;
  var most = vec4f(-3.4028234e38); // so far, for each lane and component
  var sums = vec4f(); // of exp(x − most)
  for (var j = lane; j < n4; j += CHUNK * WIDTH) {
    var part: array<vec4f, CHUNK>;
    var next = most;
    for (var k = 0u; k < CHUNK; k++) { // @unroll
      let at = j + k * WIDTH;
      part[k] = select(vec4f(-3.4028234e38), x[base + min(at, n4 - 1u)], vec4<bool>(at < n4));
      next = max(next, part[k]);
    }
    sums *= exp(most - next);
    for (var k = 0u; k < CHUNK; k++) { // @unroll
      sums += select(vec4f(), exp_or_nan(part[k] - next), vec4<bool>(j + k * WIDTH < n4));
    }
    most = next;
  }
  let largest = subgroupMax(max(max(most.x, most.y), max(most.z, most.w)));
  sums *= exp(most - largest);
  let sum = subgroupAdd((sums.x + sums.y) + (sums.z + sums.w));
  let factor = 1.0 / sum;
  let log_sum = log_or_nan(sum);
  for (var j = lane; j < n4; j += WIDTH) {
    let value = x[base + j] - largest;
    y[base + j] = select(exp(value) * factor, value - log_sum, vec4<bool>(LOG));
  }
}
