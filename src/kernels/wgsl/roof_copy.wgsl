// The memory roof: y = x + 1, one read and one write per element.
//
// x, y [count4] vec4. One invocation owns one vec4; neighbors take neighbors, as in every elementwise kernel here. There is no
// gradient: it measures.
struct Params {
  count4: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 256u;
  if (i < params.count4) {
    y[i] = x[i] + 1.0;
  }
}
