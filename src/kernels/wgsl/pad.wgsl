// Padding: x within a larger y, or a part of x where an amount is negative.
//
//   y[index] = x[index − before] along each axis; what lies outside x is
//     constant   value                       edge   the nearest element
//     reflect    x mirrored at its ends      wrap   x repeated
//
// y of shape[], x of x_shape[]; up to eight axes. Gradient: with a constant this kernel with the amounts negated, else resample.wgsl
// per axis. One invocation owns one element of y.
struct Params {
  count: u32,
  rank: u32,
  mode: u32, // 0 constant, 1 reflect, 2 edge, 3 wrap
  value: f32,
  shape: array<vec4<u32>, 2>,
  x_shape: array<vec4<u32>, 2>,
  before: array<vec4<i32>, 2>,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  var rest = i;
  var x_at = 0u;
  var stride = 1u;
  var inside = true;
  for (var step = 1u; step <= params.rank; step++) {
    let axis = params.rank - step;
    let extent = params.shape[axis / 4u][axis % 4u];
    let n = i32(params.x_shape[axis / 4u][axis % 4u]);
    var at = i32(rest % extent) - params.before[axis / 4u][axis % 4u];
    rest /= extent;
    if (params.mode == 1u) {
      at = select(at, -at, at < 0);
      at = select(at, 2 * n - 2 - at, at >= n);
    } else if (params.mode == 2u) {
      at = clamp(at, 0, n - 1);
    } else if (params.mode == 3u) {
      at = (at % n + n) % n;
    }
    inside = inside && at >= 0 && at < n;
    x_at += u32(at) * stride;
    stride *= u32(n);
  }
  var value = params.value;
  if (inside) {
    value = x[x_at];
  }
  y[i] = value;
}
