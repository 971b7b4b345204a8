// Exercise 9: the LSTM cell.
//
//   [i | f | g | o] = gx + gh;   i, f, o = σ,  g = tanh;   c′ = f c + i g;   h′ = o tanh(c′)
//
// gx, gh [B, 4H]: gate `which` of unit u of row r is number r · 4H + which · H + u behind the start. c, c_new [B, H]; h_new [B, H] behind
// h_start. With KEEP_GATES the four gates, after σ and tanh, go to `gates` for the gradient. One invocation owns one unit of one row;
// 64 units make a workgroup, so with H = 70 there are two, and the second has 58 invocations too many.
override KEEP_GATES: bool = true;

struct Params {
  rows: u32, // B
  hidden: u32, // H
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

fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(-x));
}

fn safe_tanh(x: f32) -> f32 {
  return tanh(clamp(x, -10.0, 10.0)); // some drivers give NaN for large numbers
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y + id.z * groups.y;
  let unit = id.x;
  let h = params.hidden;
  // @hole: leave where there is no unit; else the four gates, the new cell and the new state
  if (row >= params.rows || unit >= h) {
    return;
  }
  let at = row * h + unit;
  let first = row * 4u * h + unit;
  let x_at = params.gx_start + first;
  let h_at = params.gh_start + first;
  let i = sigmoid(gx[x_at] + gh[h_at]);
  let f = sigmoid(gx[x_at + h] + gh[h_at + h]);
  let g = safe_tanh(gx[x_at + 2u * h] + gh[h_at + 2u * h]);
  let o = sigmoid(gx[x_at + 3u * h] + gh[h_at + 3u * h]);
  let cell = f * c[at] + i * g;
  if (KEEP_GATES) {
    let g_at = params.gates_start + first;
    gates[g_at] = i;
    gates[g_at + h] = f;
    gates[g_at + 2u * h] = g;
    gates[g_at + 3u * h] = o;
  }
  c_new[at] = cell;
  h_new[params.h_start + at] = o * safe_tanh(cell);
  // @end
}
