// The likeliest token of each row of logits and its log-probability: one subgroup, which is a workgroup, owns one row.
//
//   token[r] = argmax_{j ≥ skip_below} x[r, j];   log_prob[r] = x[r, token[r]] − log Σ_j exp x[r, j]       (ties: the lower j)
//
// As argmax_token.wgsl with x as vec4, n a multiple of 4; maximum and sum come from one pass as in softmax_subgroup.wgsl.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const CHUNK: u32 = 2u;

struct Params {
  rows: u32,
  n: u32,
  skip_below: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> token: array<u32>;
@group(0) @binding(2) var<storage, read_write> log_prob: array<f32>;
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

// Numbers in rising order as whole numbers above 0: −0 is 0, and a NaN comes last, whatever its sign.
fn order(x: vec4f) -> vec4u {
  let magnitude = bitcast<vec4u>(x) & vec4u(0x7fffffffu);
  let place = select(vec4u(0x80000000u) + magnitude, vec4u(0x80000000u) - magnitude, bitcast<vec4i>(x) < vec4i());
  return select(place, vec4u(0xffffffffu), magnitude > vec4u(0x7f800000u));
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) {
    return;
  }
  let n4 = params.n / 4u;
  let base = row * n4;
  var most = vec4f(-3.4028234e38); // so far, for each lane and component, over all tokens
  var sums = vec4f(); // of exp(x − most)
  var best = vec4u(); // in order(), over the tokens that may be taken
  var best_at = vec4u(0xffffffffu);
  for (var j = lane; j < n4; j += CHUNK * WIDTH) {
    var part: array<vec4f, CHUNK>;
    var next = most;
    for (var k = 0u; k < CHUNK; k++) { // @unroll
      let at = j + k * WIDTH;
      let tokens = 4u * at + vec4u(0u, 1u, 2u, 3u);
      part[k] = select(vec4f(-3.4028234e38), x[base + min(at, n4 - 1u)], tokens < vec4u(params.n));
      next = max(next, part[k]);
      let place = order(part[k]);
      let better = (place > best) & (tokens >= vec4u(params.skip_below)) & (tokens < vec4u(params.n)); // later ids are higher: a tie leaves the lower one
      best = select(best, place, better);
      best_at = select(best_at, tokens, better);
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
  let chosen = subgroupMax(max(max(best.x, best.y), max(best.z, best.w)));
  let places = select(vec4u(0xffffffffu), best_at, best == vec4u(chosen));
  let first = subgroupMin(min(min(places.x, places.y), min(places.z, places.w)));
  if (lane == 0u) {
    token[row] = first;
    log_prob[row] = x[base + first / 4u][first % 4u] - largest - log_or_nan(sum);
  }
}
