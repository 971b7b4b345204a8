// Top-k by sorting, step 3: the first k of each sorted row, and where they stand.
//
//   indices[o, s, i] = places[r, s],  values[o, s, i] = x[o, places[r, s], i],  r = (o, i) counted from the row `first` on
//
// x [outer, n, inner]; places [rows, capacity]; values, indices [outer, k, inner]. One invocation owns one pair of results.
struct Params {
  count: u32, // rows k
  first: u32,
  n: u32,
  inner: u32,
  capacity: u32,
  k: u32,
}

@group(0) @binding(0) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<u32>;
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let t = id.x + id.y * groups.x * 64u;
  if (t >= params.count) {
    return;
  }
  let row = t / params.k;
  let s = t % params.k;
  let own = places[row * params.capacity + s];
  let outer = (params.first + row) / params.inner;
  let i = (params.first + row) % params.inner;
  let to = (outer * params.k + s) * params.inner + i;
  values[to] = x[(outer * params.n + own) * params.inner + i];
  indices[to] = own;
}
