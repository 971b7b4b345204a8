// Top-k by sorting, step 1: keys that rise as the numbers fall, or with SMALLEST as they rise.
//
//   keys[r, j] = the place of x[o, j, i] among all float32, r = (o, i) counted from the row `first` on
//
// x [outer, n, inner]; keys [rows, capacity]. A NaN comes first, in both orders. What is not to be taken comes last: ids below skip_below,
// and the padding from n on. One invocation owns one key.
override SMALLEST: bool = false;

struct Params {
  count: u32, // rows capacity
  first: u32,
  n: u32,
  inner: u32,
  capacity: u32,
  skip_below: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> keys: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 64u;
  if (at >= params.count) {
    return;
  }
  let row = params.first + at / params.capacity;
  let j = at % params.capacity;
  if (j >= params.n || j < params.skip_below) {
    keys[at] = 0xffffffffu;
    return;
  }
  let bits = bitcast<u32>(x[(row / params.inner * params.n + j) * params.inner + row % params.inner]);
  let magnitude = bits & 0x7fffffffu;
  let place = select(0x80000000u + magnitude, 0x80000000u - magnitude, bits > 0x7fffffffu);
  keys[at] = select(select(0xffffffffu - place, place, SMALLEST), 0u, magnitude > 0x7f800000u);
}
