// Softmax and log-softmax over rows: LANES invocations share a row, and a workgroup owns ROWS rows.
//
//   y = exp(x − max) / Σ exp(x − max)     or, with LOG,   y = x − max − log Σ exp(x − max)
//
// x, y [rows, n]. LANES = 1 gives a row to an invocation and needs no barrier, which software drivers run slowly; LANES = 128
// joins through a tree in workgroup memory, for GPUs. softmax_subgroup.wgsl gives a row to a subgroup. A lane adds in parts of 64
// terms and of 4,096, because the error of a sum grows with the terms in a row. Gradient: softmax_grad.wgsl.
const PART: u32 = 64u;

override LANES: u32 = 1u; // @launch
override ROWS: u32 = 64u; // @launch
override LOG: bool = false;

struct Params {
  rows: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
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
  let base = min(row, params.rows - 1u) * params.n;
  var largest = -3.4028234e38;
  for (var j = lane; j < params.n; j += LANES) {
    largest = max(largest, x[base + j]);
  }
  largest = join(largest, lane, local.y, true);
  var sums = vec2f(); // of parts: since the last 4,096 terms, and before
  var parts = 0u;
  for (var first = lane; first < params.n; first += PART * LANES) {
    var part = 0.0;
    for (var j = first; j < min(params.n, first + PART * LANES); j += LANES) {
      part += exp_or_nan(x[base + j] - largest);
    }
    sums.x += part;
    parts++;
    if (parts % PART == 0u) {
      sums = vec2f(0.0, sums.y + sums.x);
    }
  }
  let sum = join(sums.x + sums.y, lane, local.y, false);
  if (row >= params.rows) {
    return;
  }
  let log_sum = log_or_nan(sum);
  for (var j = lane; j < params.n; j += LANES) {
    let value = x[base + j] - largest;
    y[base + j] = select(exp(value) / sum, value - log_sum, LOG);
  }
}
