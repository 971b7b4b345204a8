// Softmax, masked cross-entropy and its gradient at once: one subgroup, which is a workgroup, owns one row.
//
//   loss[r] = weight[r] (log Σ_j exp(x[r, j]) − Σ_j q[r, j] x[r, j]),   q[r, j] = (1 − ε) [j = target[r]] + ε / n
//   dx[r, j] = weight[r] (softmax(x[r])[j] − q[r, j])
//
// As cross_entropy.wgsl with x and dx as vec4, n a multiple of 4. No workgroup memory, no barrier; maximum and sum come from
// one pass as in softmax_subgroup.wgsl.
enable subgroups;

const NOT_A_NUMBER: u32 = 0x7fc00000u;

const WIDTH: u32 = 8u; // @tune 4 8
const CHUNK: u32 = 2u;

struct Params {
  rows: u32,
  n: u32,
  with_gradient: u32,
  smoothing: f32, // ε
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> target_id: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4f>;
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
  let scale = weight[row];
  let masked = scale == 0.0; // a NaN masks nothing
  let length = select(n4, 0u, masked);
  let label = min(target_id[row], params.n - 1u);
  let missing = bitcast<f32>(select(0u, NOT_A_NUMBER, target_id[row] >= params.n)); // 0 for a target that there is
  var most = vec4f(-3.4028234e38); // so far, for each lane and component
  var sums = vec4f(); // of exp(x − most)
  var totals = vec4f(); // of x − the row's first, so that no offset common to a row drowns its differences
  let origin = select(0.0, x[base].x, x[base].x >= -3.4028234e38); // a first of −∞ is no origin
  for (var j = lane; j < length; j += CHUNK * WIDTH) {
    var part: array<vec4f, CHUNK>;
    var next = most;
    for (var k = 0u; k < CHUNK; k++) { // @unroll
      let at = j + k * WIDTH;
      let inside = vec4<bool>(at < length);
      let value = x[base + min(at, n4 - 1u)];
      totals += select(vec4f(), value - origin, inside);
      part[k] = select(vec4f(-3.4028234e38), value, inside);
      next = max(next, part[k]);
    }
    sums *= exp(most - next);
    for (var k = 0u; k < CHUNK; k++) { // @unroll
      sums += select(vec4f(), exp_or_nan(part[k] - next), vec4<bool>(j + k * WIDTH < length));
    }
    most = next;
  }
  let largest = subgroupMax(max(max(most.x, most.y), max(most.z, most.w)));
  sums *= exp(most - largest);
  let sum = subgroupAdd((sums.x + sums.y) + (sums.z + sums.w));
  let total = subgroupAdd((totals.x + totals.y) + (totals.z + totals.w)) - f32(params.n) * (largest - origin);
  if (lane == 0u) {
    loss[row] = 0.0;
    if (!masked) {
      let everywhere = select(0.0, params.smoothing * total / f32(params.n), params.smoothing > 0.0); // 0 · (−∞) is no number
      loss[row] = scale * (log_or_nan(sum) - (1.0 - params.smoothing) * (x[base + label / 4u][label % 4u] - largest) - everywhere + missing);
    }
  }
  if (params.with_gradient != 0u) {
    let factor = select(scale / sum, 0.0, masked);
    let floor_of_all = scale * params.smoothing / f32(params.n);
    let of_target = scale * (1.0 - params.smoothing);
    for (var j = lane; j < n4; j += WIDTH) {
      var value = vec4f();
      if (!masked) {
        let hit = vec4u(4u * j) + vec4u(0u, 1u, 2u, 3u) == vec4u(label);
        value = factor * exp(x[base + j] - largest) - floor_of_all - select(vec4f(), vec4f(of_target), hit) + missing;
      }
      dx[base + j] = value;
    }
  }
}
