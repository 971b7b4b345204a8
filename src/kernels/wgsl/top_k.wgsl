// The k largest of each row with their places, in falling order; ties go to the lower index, as argmax does everywhere.
//
//   values[r, i], indices[r, i]   i = 0 … k − 1
//
// x [rows, n]; k ≤ n − skip_below. A NaN counts as the largest, as in PyTorch. LANES invocations share a row, and a workgroup owns
// ROWS rows (see softmax.wgsl). Each round takes the best element that comes after the last one taken, by falling value,
// then rising index. So nothing is marked or moved.
override LANES: u32 = 1u; // @launch
override ROWS: u32 = 64u; // @launch

struct Params {
  rows: u32,
  n: u32,
  k: u32,
  skip_below: u32, // ids below this one are never taken (special tokens); 0 takes all
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> indices: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> tree_place: array<u32, LANES * ROWS>;
var<workgroup> tree_index: array<u32, LANES * ROWS>;

// Numbers in rising order as whole numbers above 0: −0 is 0, and a NaN comes last, whatever its sign.
fn order(x: f32) -> u32 {
  let magnitude = bitcast<u32>(x) & 0x7fffffffu;
  let place = select(0x80000000u + magnitude, 0x80000000u - magnitude, bitcast<i32>(x) < 0);
  return select(place, 0xffffffffu, magnitude > 0x7f800000u);
}

fn comes_first(place: u32, index: u32, other: u32, other_index: u32) -> bool {
  return place > other || (place == other && index < other_index);
}

@compute @workgroup_size(LANES, ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let lane = local.x;
  let slot = local.y * LANES + lane;
  let row = (group.x + group.y * groups.x) * ROWS + local.y;
  let base = min(row, params.rows - 1u) * params.n;
  var last = 0u;
  var last_index = 0u;
  for (var i = 0u; i < params.k; i++) {
    var best = 0u; // in order()
    var best_index = 0xffffffffu;
    for (var j = lane + params.skip_below; j < params.n; j += LANES) {
      let place = order(x[base + j]);
      let allowed = i == 0u || comes_first(last, last_index, place, j);
      if (allowed && place > best) { // later ids are higher: a tie leaves the lower one
        best = place;
        best_index = j;
      }
    }
    if (LANES > 1u) {
      tree_place[slot] = best;
      tree_index[slot] = best_index;
      for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half && comes_first(tree_place[slot + half], tree_index[slot + half], tree_place[slot], tree_index[slot])) {
          tree_place[slot] = tree_place[slot + half];
          tree_index[slot] = tree_index[slot + half];
        }
      }
      workgroupBarrier();
      best = tree_place[local.y * LANES];
      best_index = tree_index[local.y * LANES];
      workgroupBarrier();
    }
    last = best;
    last_index = best_index;
    if (lane == 0u && row < params.rows) {
      values[row * params.k + i] = x[base + best_index];
      indices[row * params.k + i] = best_index;
    }
  }
}
