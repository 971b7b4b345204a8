// GRU cell, fused: both gates, the candidate and the new state of a step.
//
//   r = σ(gx_r + gh_r);  z = σ(gx_z + gh_z);  n = tanh(gx_n + r gh_n);   h' = (1 − z) n + z h
//
// gx = x W + b, gh = h U, both [B, 3H] in the order r, z, n, from matmul; h, h_new [B, H]. The reset gate works on the product
// (as cuDNN has it; Cho and others 2014 reset h before it), so that one product serves all three. gates [B, 3H] keeps r, z, n
// for the gradient. One invocation owns one unit of one row. Gradient: gru_cell_grad.wgsl.
struct Params {
  count: u32, // B H
  hidden: u32,
}

@group(0) @binding(0) var<storage, read> gx: array<f32>;
@group(0) @binding(1) var<storage, read> gh: array<f32>;
@group(0) @binding(2) var<storage, read> h: array<f32>;
@group(0) @binding(3) var<storage, read_write> gates: array<f32>;
@group(0) @binding(4) var<storage, read_write> h_new: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn sigmoid(x: f32) -> f32 {
  return select(1.0 / (1.0 + exp(-x)), x, is_nan(x));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 64u;
  if (at >= params.count) {
    return;
  }
  let width = params.hidden;
  let g = at / width * 3u * width + at % width;
  let r = sigmoid(gx[g] + gh[g]);
  let z = sigmoid(gx[g + width] + gh[g + width]);
  let candidate = gx[g + 2u * width] + r * gh[g + 2u * width];
  let n = select(tanh(clamp(candidate, -10.0, 10.0)), candidate, is_nan(candidate)); // SwiftShader's tanh is NaN beyond 88
  gates[g] = r;
  gates[g + width] = z;
  gates[g + 2u * width] = n;
  h_new[at] = (1.0 - z) * n + z * h[at];
}
