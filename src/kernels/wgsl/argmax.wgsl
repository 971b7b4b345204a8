// Where the largest or the smallest number of the middle axis stands: y[o, i] = argmax_j x[o, j, i].
//
// x [outer, n, inner], y [outer, inner]. A NaN is the extreme, as in NumPy; of equal numbers the first counts, with LAST the last. LANES
// invocations share a line: one invocation owns it, or a workgroup of which each lane takes every 64th number.
const SIZE: u32 = 64u;

override LANES: u32 = 1u; // @launch
override SMALLEST: bool = false;
override LAST: bool = false;

struct Params {
  lines: u32, // outer inner
  n: u32,
  inner: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> tree_key: array<u32, SIZE>;
var<workgroup> tree_index: array<u32, SIZE>;

// The wanted number has the highest key, a NaN a higher one; −0 is 0. No key is 0.
fn key_of(x: f32) -> u32 {
  let magnitude = bitcast<u32>(x) & 0x7fffffffu;
  let place = select(0x80000000u + magnitude, 0x80000000u - magnitude, bitcast<i32>(x) < 0);
  return select(select(place, 0xffffffffu - place, SMALLEST), 0xffffffffu, magnitude > 0x7f800000u);
}

fn wins(key: u32, index: u32, other: u32, other_index: u32) -> bool {
  return key > other || (key == other && select((index < other_index), (index > other_index), LAST));
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let share = group.x + group.y * groups.x;
  let line = select(share * SIZE + local, share, LANES > 1u);
  let lane = select(0u, local, LANES > 1u);
  let base = line / params.inner * params.n * params.inner + line % params.inner;
  let n = select(0u, params.n, line < params.lines);
  var best = 0u;
  var best_index = 0u;
  for (var j = lane; j < n; j += LANES) {
    let key = key_of(x[base + j * params.inner]);
    if (wins(key, j, best, best_index)) {
      best = key;
      best_index = j;
    }
  }
  if (LANES > 1u) {
    tree_key[lane] = best;
    tree_index[lane] = best_index;
    for (var half = SIZE / 2u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (lane < half && wins(tree_key[lane + half], tree_index[lane + half], tree_key[lane], tree_index[lane])) {
        tree_key[lane] = tree_key[lane + half];
        tree_index[lane] = tree_index[lane + half];
      }
    }
    best_index = tree_index[lane];
  }
  if (lane == 0u && line < params.lines) {
    y[line] = best_index;
  }
}
