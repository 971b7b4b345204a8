// Swish (Ramachandran and others 2017), and its gradient when GRADIENT is set.
//
//   y = x σ(x)                        dx = dy (σ(x) + x σ(x) (1 − σ(x)))
//
// x, dy, out  [count]; out is y or dx. dy is read for the gradient only. One invocation owns one element.
override GRADIENT: bool = false;

struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (i >= params.count) {
    return;
  }
  let s = 1.0 / (1.0 + exp(-x[i]));
  if (GRADIENT) {
    out[i] = dy[i] * (s + x[i] * s * (1.0 - s));
  } else {
    out[i] = x[i] * s;
  }
}
