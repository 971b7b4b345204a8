// Exercise 10: the LSTM cell backward, with the carry.
//
//   dc′ += dh′ o (1 − tanh²(c′))
//   di = dc′ g i (1 − i);   df = dc′ c f (1 − f);   dg = dc′ i (1 − g²);   do = dh′ tanh(c′) o (1 − o);   dc = dc′ f
//
// dh [B, H] behind dh_start; gates, dgates [B, 4H] behind gates_start, in the order i, f, g, o; c and c_new [B, H]. dc_carry [B, H]
// comes in as dc′ from the step after, and leaves as dc for the step before: it is read and written in place.
struct Params {
  rows: u32, // B
  hidden: u32, // H
  dh_start: u32,
  gates_start: u32, // of gates and dgates
}

@group(0) @binding(0) var<storage, read> dh: array<f32>;
@group(0) @binding(1) var<storage, read> gates: array<f32>;
@group(0) @binding(2) var<storage, read> c: array<f32>;
@group(0) @binding(3) var<storage, read> c_new: array<f32>;
@group(0) @binding(4) var<storage, read_write> dc_carry: array<f32>;
@group(0) @binding(5) var<storage, read_write> dgates: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y + id.z * groups.y;
  let unit = id.x;
  let h = params.hidden;
  if (row >= params.rows || unit >= h) {
    return;
  }
  let at = row * h + unit;
  let g_at = params.gates_start + row * 4u * h + unit;
  let i = gates[g_at];
  let f = gates[g_at + h];
  let g = gates[g_at + 2u * h];
  let o = gates[g_at + 3u * h];
  let squashed = tanh(clamp(c_new[at], -10.0, 10.0));
  let d_hidden = dh[params.dh_start + at];
  // @hole: the gradient of the cell, of the four gates, and the carry
  let d_cell = dc_carry[at] + d_hidden * o * (1.0 - squashed * squashed);
  dgates[g_at] = d_cell * g * i * (1.0 - i);
  dgates[g_at + h] = d_cell * c[at] * f * (1.0 - f);
  dgates[g_at + 2u * h] = d_cell * i * (1.0 - g * g);
  dgates[g_at + 3u * h] = d_hidden * squashed * o * (1.0 - o);
  dc_carry[at] = d_cell * f;
  // @end
}
