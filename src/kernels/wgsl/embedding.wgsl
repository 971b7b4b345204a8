// Embedding: y[r] = table[id[r]].
//
// table [V, E]; id [rows] (callers keep ids below V; larger ones read the last row); y [rows, E].
// One invocation owns one element. Gradient: embedding_links.wgsl, then embedding_grad.wgsl.
struct Params {
  count: u32,
  width: u32,
  vocabulary: u32,
}

@group(0) @binding(0) var<storage, read> table: array<f32>;
@group(0) @binding(1) var<storage, read> id_of: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < params.count) {
    y[i] = table[min(id_of[i / params.width], params.vocabulary - 1u) * params.width + i % params.width];
  }
}
