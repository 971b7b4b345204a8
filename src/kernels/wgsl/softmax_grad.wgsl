// Gradient of softmax and log-softmax over rows, from the output alone.
//
//   softmax:      dx = y (dy − Σ dy y)          log-softmax:  dx = dy − exp(y) Σ dy
//
// y, dy, dx [rows, n]. One invocation owns one row.
override LOG: bool = false;

struct Params {
  rows: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// SwiftShader's exp of a NaN is infinite.
fn exp_or_nan(x: f32) -> f32 {
  return select(exp(x), x, is_nan(x));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  if (index >= params.rows) {
    return;
  }
  let base = index * params.n;
  var sum = 0.0;
  for (var j = base; j < base + params.n; j++) {
    sum += dy[j] * select(y[j], 1.0, LOG);
  }
  for (var j = base; j < base + params.n; j++) {
    dx[j] = select(y[j] * (dy[j] - sum), dy[j] - exp_or_nan(y[j]) * sum, LOG);
  }
}
