// Gradient of the embedding, step 2: dtable[v] = Σ dy[r] over the rows r with id v.
//
// dy [rows, E]; next, first [rows] from embedding_links.wgsl; dtable [V, E], cleared before. An id from V on has no row to add to.
// One invocation owns one element of dy; those of the first row of a chain walk the chain.
struct Params {
  count: u32,
  rows: u32,
  width: u32,
  vocabulary: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> id_of: array<u32>;
@group(0) @binding(2) var<storage, read> next: array<u32>;
@group(0) @binding(3) var<storage, read> first: array<u32>;
@group(0) @binding(4) var<storage, read_write> dtable: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let row = i / params.width;
  let e = i % params.width;
  if (first[row] == 0u || id_of[row] >= params.vocabulary) {
    return;
  }
  var sum = 0.0;
  for (var r = row; r < params.rows; r = next[r]) {
    sum += dy[r * params.width + e];
  }
  dtable[id_of[row] * params.width + e] = sum;
}
