// Gradient of the context gate.
//
//   dpre = (Σ_d dgated context) β (1 − β);   dcontext = β dgated;   dhidden += dpre w
//
// dgated [B, D] (one step); context and dcontext [B, D] at context_start, beta and dpre [B] at beta_start; dhidden [B, H] at
// hidden_start gathers. dw = Σ hidden dpre and db = Σ dpre are one product and one sum over all steps. One workgroup owns one
// picture.
const LANES: u32 = 64u;

struct Params {
  hidden: u32,
  width: u32,
  hidden_start: u32,
  context_start: u32,
  beta_start: u32,
}

@group(0) @binding(0) var<storage, read> dgated: array<f32>;
@group(0) @binding(1) var<storage, read> context: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
@group(0) @binding(3) var<storage, read> w: array<f32>;
@group(0) @binding(4) var<storage, read_write> dcontext: array<f32>;
@group(0) @binding(5) var<storage, read_write> dhidden: array<f32>;
@group(0) @binding(6) var<storage, read_write> dpre: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let value = beta[params.beta_start + group.x];
  var sum = 0.0;
  for (var d = local.x; d < params.width; d += LANES) {
    let row = group.x * params.width + d;
    sum += dgated[row] * context[params.context_start + row];
    dcontext[params.context_start + row] = value * dgated[row];
  }
  partial[local.x] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var j = 0u; j < LANES; j++) {
    sum += partial[j];
  }
  let slope = sum * value * (1.0 - value);
  if (local.x == 0u) {
    dpre[params.beta_start + group.x] = slope;
  }
  for (var j = local.x; j < params.hidden; j += LANES) {
    dhidden[params.hidden_start + group.x * params.hidden + j] += slope * w[j];
  }
}
