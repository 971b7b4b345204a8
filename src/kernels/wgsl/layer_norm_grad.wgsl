// Gradient of layer normalization.
//
//   x̂ = (x − μ) s;   g = γ dy;   dx = s (g − mean_j g − x̂ mean_j (g x̂));   scaled = dy x̂
//
// dy, x, dx, scaled [rows, n]; γ [n]; mean, inverse [rows]. dγ and dβ are the sums of `scaled` and dy over the rows.
// One invocation owns one row.
struct Params {
  rows: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> inverse: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<storage, read_write> scaled: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) {
    return;
  }
  let base = row * params.n;
  let middle = mean[row];
  let s = inverse[row];
  var sum = 0.0;
  var product = 0.0;
  for (var j = 0u; j < params.n; j++) {
    let normal = (x[base + j] - middle) * s;
    let g = gamma[j] * dy[base + j];
    sum += g;
    product += g * normal;
    scaled[base + j] = dy[base + j] * normal;
  }
  sum /= f32(params.n);
  product /= f32(params.n);
  for (var j = 0u; j < params.n; j++) {
    dx[base + j] = s * (gamma[j] * dy[base + j] - sum - (x[base + j] - middle) * s * product);
  }
}
