// Layer normalization over rows (Ba, Kiros and Hinton 2016); without CENTERED, by the root mean square (Zhang and Sennrich 2019).
//
//   μ = mean_j x;   s = 1 / √(mean_j (x − μ)² + ε);   y = γ (x − μ) s + β          without CENTERED, μ = 0 and β = 0
//
// x, y [rows, n]; γ, β [n]; mean, inverse [rows] keep μ and s for the gradient. One invocation owns one row: two passes for
// the statistics, because E x² − μ² loses its digits. Far from 0, float32 holds μ too coarsely, and WGSL lets a division be off by
// 2.5 units of its last digit. So the second pass also finds the mean distance c from μ, which corrects both (Chan, Golub and LeVeque
// 1983). Gradient: layer_norm_grad.wgsl.
override CENTERED: bool = true;

struct Params {
  rows: u32,
  n: u32,
  eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> inverse: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

// A sum of many terms: of single ones, and of 8, 64, 512 and 4,096 together, of which only the last ever has more than eight
// terms. The error of a plain running sum grows with their count.
struct LongSum {
  terms: u32,
  ones: f32,
  more: vec4f,
}

fn add(sum: ptr<function, LongSum>, value: f32) {
  (*sum).terms++;
  (*sum).ones += value;
  if ((*sum).terms % 8u == 0u) {
    (*sum).more.x += (*sum).ones;
    (*sum).ones = 0.0;
    if ((*sum).terms % 64u == 0u) {
      (*sum).more.y += (*sum).more.x;
      (*sum).more.x = 0.0;
      if ((*sum).terms % 512u == 0u) {
        (*sum).more.z += (*sum).more.y;
        (*sum).more.y = 0.0;
        if ((*sum).terms % 4096u == 0u) {
          (*sum).more.w += (*sum).more.z;
          (*sum).more.z = 0.0;
        }
      }
    }
  }
}

fn total(sum: LongSum) -> f32 {
  return ((sum.ones + sum.more.x) + sum.more.y) + (sum.more.z + sum.more.w);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.x + id.y * groups.x * 64u;
  if (row >= params.rows) {
    return;
  }
  let base = row * params.n;
  var middle = 0.0;
  if (CENTERED) {
    var sum = LongSum();
    for (var j = 0u; j < params.n; j++) {
      add(&sum, x[base + j]);
    }
    middle = total(sum) / f32(params.n);
  }
  var squares = LongSum();
  var distances = 0.0; // nearly 0, so a plain running sum keeps its digits
  for (var j = 0u; j < params.n; j++) {
    let distance = x[base + j] - middle;
    distances += distance;
    add(&squares, distance * distance);
  }
  let c = select(0.0, distances / f32(params.n), CENTERED);
  let variance = total(squares) / f32(params.n) - c * c;
  let s = inverseSqrt(select(variance, 0.0, variance < 0.0) + params.eps);
  for (var j = 0u; j < params.n; j++) {
    y[base + j] = gamma[j] * (x[base + j] - middle - c) * s + select(0.0, beta[j], CENTERED);
  }
  mean[row] = middle;
  inverse[row] = s;
}
