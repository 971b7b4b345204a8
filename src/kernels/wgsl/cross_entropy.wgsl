// Softmax, masked cross-entropy and its gradient at once; probabilities are never stored.
//
//   loss[r] = weight[r] (log Σ_j exp(x[r, j]) − Σ_j q[r, j] x[r, j])
//   dx[r, j] = weight[r] (softmax(x[r])[j] − q[r, j])
//   q[r, j] = (1 − ε) [j = target[r]] + ε / n                          (label smoothing; ε = 0 is the plain loss)
//
// x, dx [rows, n]; target, weight, loss [rows]. A target from n on makes loss and gradient of its row NaN. A row of weight 0 is
// masked: neither x nor target is read, its loss and gradient are 0. LANES invocations share a row, and a workgroup owns ROWS rows,
// as in softmax.wgsl, and add as there.
const NOT_A_NUMBER: u32 = 0x7fc00000u;
const PART: u32 = 64u;

override LANES: u32 = 1u; // @launch
override ROWS: u32 = 64u; // @launch

struct Params {
  rows: u32,
  n: u32,
  with_gradient: u32,
  smoothing: f32, // ε
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> target_id: array<u32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> tree: array<f32, LANES * ROWS>;

// The sum or, with `largest`, the max of one number per lane of a row; every lane gets it.
fn join(value: f32, lane: u32, line: u32, largest: bool) -> f32 {
  if (LANES == 1u) {
    return value;
  }
  tree[line * LANES + lane] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      let a = tree[line * LANES + lane];
      let b = tree[line * LANES + lane + half];
      tree[line * LANES + lane] = select(a + b, max(a, b), largest);
    }
  }
  workgroupBarrier();
  let joined = tree[line * LANES];
  workgroupBarrier();
  return joined;
}

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// SwiftShader's exp of a NaN is infinite, its logarithm a number.
fn exp_or_nan(x: f32) -> f32 {
  return select(exp(x), x, is_nan(x));
}

fn log_or_nan(x: f32) -> f32 {
  return select(log(x), x, is_nan(x));
}

@compute @workgroup_size(LANES, ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let lane = local.x;
  let row = (group.x + group.y * groups.x) * ROWS + local.y;
  let safe_row = min(row, params.rows - 1u);
  let base = safe_row * params.n;
  let scale = weight[safe_row];
  let masked = scale == 0.0; // a NaN masks nothing
  let length = select(params.n, 0u, masked);
  var largest = -3.4028234e38;
  for (var j = lane; j < length; j += LANES) {
    largest = max(largest, x[base + j]);
  }
  largest = join(largest, lane, local.y, true);
  var sums = vec4f(); // of exponentials and of distances: since the last 4,096 terms, and before
  var parts = 0u;
  for (var first = lane; first < length; first += PART * LANES) {
    var part = vec2f();
    for (var j = first; j < min(length, first + PART * LANES); j += LANES) {
      let value = x[base + j] - largest;
      part += vec2f(exp_or_nan(value), value);
    }
    sums += vec4f(part, 0.0, 0.0);
    parts++;
    if (parts % PART == 0u) {
      sums = vec4f(0.0, 0.0, sums.zw + sums.xy);
    }
  }
  let sum = join(sums.x + sums.z, lane, local.y, false);
  var total = sums.y + sums.w;
  if (params.smoothing > 0.0) {
    total = join(total, lane, local.y, false);
  }
  if (row >= params.rows) {
    return;
  }
  let label = min(target_id[row], params.n - 1u);
  let missing = bitcast<f32>(select(0u, NOT_A_NUMBER, target_id[row] >= params.n)); // 0 for a target that there is
  if (lane == 0u) {
    loss[row] = 0.0;
    if (!masked) {
      let everywhere = select(0.0, params.smoothing * total / f32(params.n), params.smoothing > 0.0); // 0 · (−∞) is no number
      loss[row] = scale * (log_or_nan(sum) - (1.0 - params.smoothing) * (x[base + label] - largest) - everywhere + missing);
    }
  }
  if (params.with_gradient != 0u) {
    for (var j = lane; j < params.n; j += LANES) {
      var value = 0.0;
      if (!masked) {
        let wanted = params.smoothing / f32(params.n) + select(0.0, 1.0 - params.smoothing, j == label);
        value = scale * (exp(x[base + j] - largest) / sum - wanted + missing);
      }
      dx[base + j] = value;
    }
  }
}
