// Gradient of the embedding, step 1: links the rows that hold the same id, in order.
//
//   next[r] = the next row with the id of r, or rows;  first[r] = 1 when no earlier row has it, else 0
//
// id, next, first [rows]. One invocation owns one row. With the chains known, step 2 sums each id's rows in a fixed order
// without atomics.
struct Params {
  rows: u32,
}

@group(0) @binding(0) var<storage, read> id_of: array<u32>;
@group(0) @binding(1) var<storage, read_write> next: array<u32>;
@group(0) @binding(2) var<storage, read_write> first: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  let row = index;
  if (row >= params.rows) {
    return;
  }
  let own = id_of[row];
  var later = row + 1u;
  while (later < params.rows && id_of[later] != own) {
    later++;
  }
  var earlier = 0u;
  while (earlier < row && id_of[earlier] != own) {
    earlier++;
  }
  next[row] = later;
  first[row] = select(0u, 1u, earlier == row);
}
