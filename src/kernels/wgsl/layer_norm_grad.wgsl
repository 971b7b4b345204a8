// Gradient of layer normalization, and without CENTERED of that by the root mean square.
//
//   x̂ = (x − μ) s;   g = γ dy;   dx = s (g − mean_j g − x̂ mean_j (g x̂));   scaled = dy x̂      without CENTERED, no mean_j g
//
// dy, x, dx, scaled [rows, n]; γ [n]; mean, inverse [rows]. dγ and dβ are the sums of `scaled` and dy over the rows.
// One invocation owns one row.
override CENTERED: bool = true;

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
  let middle = mean[row];
  let s = inverse[row];
  var sum = LongSum();
  var product = LongSum();
  for (var j = 0u; j < params.n; j++) {
    let normal = (x[base + j] - middle) * s;
    let g = gamma[j] * dy[base + j];
    add(&sum, g);
    add(&product, g * normal);
    scaled[base + j] = dy[base + j] * normal;
  }
  let mean_g = select(0.0, total(sum) / f32(params.n), CENTERED);
  let mean_product = total(product) / f32(params.n);
  for (var j = 0u; j < params.n; j++) {
    dx[base + j] = s * (gamma[j] * dy[base + j] - mean_g - (x[base + j] - middle) * s * mean_product);
  }
}
