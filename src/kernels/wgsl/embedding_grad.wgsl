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
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let row = i / params.width;
  let e = i % params.width;
  if (first[row] == 0u || id_of[row] >= params.vocabulary) {
    return;
  }
  var sum = LongSum();
  for (var r = row; r < params.rows; r = next[r]) {
    add(&sum, dy[r * params.width + e]);
  }
  dtable[id_of[row] * params.width + e] = total(sum);
}
