// What the gradient of scaled dot-product attention needs of each query: m and 1 / l of its softmax, and Δ = Σ_e dy y.
//
// y, dy [B · H, T, E];  stats [B · H, T]: (m, l) of scaled_dot_product.wgsl;  rows [B · H, T]: (m, 1 / l, Δ, 0). One invocation owns one query.
// A query that sees nothing has l = 0; its 1 / l counts as 0. See scaled_dot_product_grad_query.wgsl.
struct Params {
  rows: u32,
  values_width: u32,
}

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> rows: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) {
    return;
  }
  let base = row * params.values_width;
  var delta = 0.0;
  for (var e = base; e < base + params.values_width; e++) {
    delta += dy[e] * y[e];
  }
  let sum = stats[row].y;
  rows[row] = vec4f(stats[row].x, select(1.0 / sum, 0.0, sum == 0.0 && !is_nan(sum)), delta, 0.0);
}
