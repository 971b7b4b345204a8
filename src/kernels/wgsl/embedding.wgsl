// Embedding: y[r] = table[id[r]].
//
// table [V, E]; id [rows]; y [rows, E]. The row of an id from V on is NaN. One invocation owns one element, a workgroup 64 of a
// row: no index is divided, which drivers on a CPU do number by number. Gradient: embedding_links.wgsl, then embedding_grad.wgsl.
const NOT_A_NUMBER: u32 = 0x7fc00000u;

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
    let own = id_of[row];
    let inside = own < params.vocabulary;
    let bits = bitcast<u32>(table[select(0u, own, inside) * params.width + id.x]);
    y[row * params.width + id.x] = bitcast<f32>(select(NOT_A_NUMBER, bits, inside));
  }
}
