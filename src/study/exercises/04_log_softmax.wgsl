// Exercise 4: log-softmax that does not overflow.
//
//   LOG:  y_j = x_j − log Σ_k exp(x_k)            else  y_j = exp(x_j) / Σ_k exp(x_k)
//
// x, y [rows, n]. One invocation owns one row. exp(100) is beyond float32. Subtract the largest number of the row first: that changes
// neither result, because it cancels. And subtract it before the logarithm of the sum: x_j − (max + log Σ) loses digits when max is
// large.
// @grid rows/64
override LOG: bool = false;

struct Params {
  rows: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) {
    return;
  }
  let base = row * params.n;
  var largest = -3.4028234e38;
  var sum = 0.0;
  // @hole: the largest number of the row, then the sum of exp(x − largest)
  for (var j = 0u; j < params.n; j++) {
    largest = max(largest, x[base + j]);
  }
  for (var j = 0u; j < params.n; j++) {
    sum += exp(x[base + j] - largest);
  }
  // @end
  // @hole: y of every j, for LOG and without
  let log_sum = log(sum);
  for (var j = 0u; j < params.n; j++) {
    let value = x[base + j] - largest;
    y[base + j] = select(exp(value) / sum, value - log_sum, LOG);
  }
  // @end
}
