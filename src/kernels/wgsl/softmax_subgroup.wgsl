// Softmax and log-softmax over rows, version 2: one subgroup per row, joined by subgroup operations.
//
//   y = exp(x − max) / Σ exp(x − max)     or, with LOG,   y = x − max − log Σ exp(x − max)
//
// x, y [rows, n] as vec4, n a multiple of 4. A workgroup is one subgroup of WIDTH lanes and owns one row: loads of four,
// no workgroup memory, no barrier. 17 ms against 38 for the tree at 2240 × 5000 on lavapipe.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8

override LOG: bool = false;

struct Params {
  rows: u32,
  n: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) {
    return;
  }
  let n4 = params.n / 4u;
  let base = row * n4;
  var most = vec4f(-3.4028234e38);
  for (var j = lane; j < n4; j += WIDTH) {
    most = max(most, x[base + j]);
  }
  let largest = subgroupMax(max(max(most.x, most.y), max(most.z, most.w)));
  var sums = vec4f();
  for (var j = lane; j < n4; j += WIDTH) {
    sums += exp(x[base + j] - largest);
  }
  let sum = subgroupAdd((sums.x + sums.y) + (sums.z + sums.w));
  let shift = largest + log(sum);
  for (var j = lane; j < n4; j += WIDTH) {
    let value = x[base + j];
    y[base + j] = select(exp(value - largest) / sum, value - shift, vec4<bool>(LOG));
  }
}
