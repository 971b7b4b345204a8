// Embedding: y[r] = table[id[r]].
//
// table [V, E]; id [rows] (callers keep ids below V; larger ones read the last row); y [rows, E]. One invocation owns one
// element, a workgroup 64 of a row: no index is divided, which drivers on a CPU do number by number. Gradient:
// embedding_links.wgsl, then embedding_grad.wgsl.
struct Params {
  rows: u32,
  width: u32,
  vocabulary: u32,
}

@group(0) @binding(0) var<storage, read> table: array<f32>;
@group(0) @binding(1) var<storage, read> id_of: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let row = id.y + id.z * groups.y;
  if (row < params.rows && id.x < params.width) {
    y[row * params.width + id.x] = table[min(id_of[row], params.vocabulary - 1u) * params.width + id.x];
  }
}
