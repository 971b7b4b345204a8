// Exercise 11, first part: additive attention backward, into the scores.
//
//   dα_i = dz · a_i (+ dalpha_i);   de_i = α_i (dα_i − Σ_j α_j dα_j)
//
// dcontext (dz) [B, D], values (a) [B, P, D]; alpha, dalpha and de [B, P], behind their starts. One invocation owns one picture: simple,
// and slow. The second line is the gradient of a softmax, as in exercise 5.
// @grid X/1
struct Params {
  regions: u32, // P
  values_width: u32, // D
  context_start: u32,
  alpha_start: u32,
  has_dalpha: u32,
}

@group(0) @binding(0) var<storage, read> dcontext: array<f32>;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read> alpha: array<f32>;
@group(0) @binding(3) var<storage, read> dalpha: array<f32>;
@group(0) @binding(4) var<storage, read_write> de: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// dα_i of picture b.
fn d_alpha(b: u32, i: u32) -> f32 {
  var d = 0.0;
  // @hole: the product of dz with the values of region i, and dalpha where there is one
  for (var j = 0u; j < params.values_width; j++) {
    d += dcontext[params.context_start + b * params.values_width + j] * values[(b * params.regions + i) * params.values_width + j];
  }
  if (params.has_dalpha != 0u) {
    d += dalpha[params.alpha_start + b * params.regions + i];
  }
  // @end
  return d;
}

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3u) {
  let b = group.x;
  let first = params.alpha_start + b * params.regions;
  var sum = 0.0;
  // @hole: Σ_j α_j dα_j, then de of every region
  for (var i = 0u; i < params.regions; i++) {
    sum += alpha[first + i] * d_alpha(b, i);
  }
  for (var i = 0u; i < params.regions; i++) {
    de[first + i] = alpha[first + i] * (d_alpha(b, i) - sum);
  }
  // @end
}
