// LSTM cell, fused: all four gates, the new cell and the new hidden state of a step.
//
//   [i | f | g | o] = gx + gh      (gx = x W + b of this step, gh = h U: both products come from matmul)
//   i, f, o = σ;  g = tanh;   c' = f c + i g;   h' = o tanh(c')          (Hochreiter and Schmidhuber 1997; Gers 2000)
//
// gx, gh [B, 4H]; c [B, H]; gates [B, 4H] keeps the activated gates for the gradient; c_new, h_new [B, H]. Sequences live
// in one buffer per quantity, so each binding of a sequence has a start. One invocation owns one unit of one row, a workgroup
// 64 units: no index is divided, which drivers on a CPU do number by number. Gradient: lstm_cell_grad.wgsl.
override KEEP_GATES: bool = true; // only a gradient needs them

struct Params {
  rows: u32, // B
  hidden: u32,
  gx_start: u32,
  gh_start: u32,
  h_start: u32, // of h_new
  gates_start: u32,
}

@group(0) @binding(0) var<storage, read> gx: array<f32>;
@group(0) @binding(1) var<storage, read> gh: array<f32>;
@group(0) @binding(2) var<storage, read> c: array<f32>;
@group(0) @binding(3) var<storage, read_write> gates: array<f32>;
@group(0) @binding(4) var<storage, read_write> c_new: array<f32>;
@group(0) @binding(5) var<storage, read_write> h_new: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn sigmoid(x: f32) -> f32 {
  return select(1.0 / (1.0 + exp(-x)), x, is_nan(x));
}

fn safe_tanh(x: f32) -> f32 {
  return select(tanh(clamp(x, -10.0, 10.0)), x, is_nan(x)); // SwiftShader's tanh is NaN beyond 88
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y + id.z * groups.y;
  let unit = id.x;
  if (row >= params.rows || unit >= params.hidden) {
    return;
  }
  let at = row * params.hidden + unit;
  let first = row * 4u * params.hidden + unit;
  let x_at = params.gx_start + first;
  let h_at = params.gh_start + first;
  let g_at = params.gates_start + first;
  let h = params.hidden;
  let i = sigmoid(gx[x_at] + gh[h_at]);
  let f = sigmoid(gx[x_at + h] + gh[h_at + h]);
  let g = safe_tanh(gx[x_at + 2u * h] + gh[h_at + 2u * h]);
  let o = sigmoid(gx[x_at + 3u * h] + gh[h_at + 3u * h]);
  let cell = f * c[at] + i * g;
  if (KEEP_GATES) {
    gates[g_at] = i;
    gates[g_at + h] = f;
    gates[g_at + 2u * h] = g;
    gates[g_at + 3u * h] = o;
  }
  c_new[at] = cell;
  h_new[params.h_start + at] = o * safe_tanh(cell);
}
