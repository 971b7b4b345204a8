// Blocks of S × S pixels become pixels with S² times the channels: a convolution of stride S is one of stride 1 on them.
//
//   y[r, b, (dy, dx, c)] = x[S r + dy, S b + dx, c]        x [rows S, width S, C], y [rows, width, S, S, C]
//
// Rows of all pictures follow one another. One workgroup owns a row of blocks, an invocation blocks of that row. So no index
// is divided, which drivers on a CPU do number by number.
struct Params {
  rows: u32, // of blocks, of all pictures
  width: u32, // in blocks
  run: u32, // S C: numbers that lie together on both sides
  size: u32, // S
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let row = group.x + group.y * groups.x;
  if (row >= params.rows) {
    return;
  }
  for (var b = local.x; b < params.width; b += 64u) {
    for (var dy = 0u; dy < params.size; dy++) {
      let source = ((row * params.size + dy) * params.width + b) * params.run;
      let target_at = ((row * params.width + b) * params.size + dy) * params.run;
      for (var j = 0u; j < params.run; j++) {
        y[target_at + j] = x[source + j];
      }
    }
  }
}
