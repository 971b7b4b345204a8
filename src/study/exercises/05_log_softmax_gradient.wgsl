// Exercise 5: the gradient of exercise 4, from its output alone.
//
//   LOG:  dx_j = dy_j − exp(y_j) Σ_k dy_k            else  dx_j = y_j (dy_j − Σ_k dy_k y_k)
//
// y, dy, dx [rows, n]. One invocation owns one row. Why: with p = softmax(x), ∂ log p_k / ∂ x_j = [k = j] − p_j. Multiply by dy_k and
// sum over k.
override LOG: bool = false;

struct Params {
  rows: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) {
    return;
  }
  let base = row * params.n;
  var sum = 0.0;
  // @hole: the sum over the row, then dx of every j
  for (var j = base; j < base + params.n; j++) {
    sum += dy[j] * select(y[j], 1.0, LOG);
  }
  for (var j = base; j < base + params.n; j++) {
    dx[j] = select(y[j] * (dy[j] - sum), dy[j] - exp(y[j]) * sum, LOG);
  }
  // @end
}
