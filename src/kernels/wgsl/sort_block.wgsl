// Bitonic sort of rows, the steps within a block: rising keys, of equal keys the lower place first.
//
// keys, places [total]: rows of `capacity` elements, a power of two. One workgroup owns BLOCK elements that lie side by side, and keeps
// them in workgroup memory from the stage `first` to the stage `last`. A stage k merges runs of k / 2 elements to runs of k. Of
// a stage longer than a block these are the steps whose partners lie within it; sort_step.wgsl does the others before. With NEW,
// the places are written here: 0, 1, 2, … in each row.
const BLOCK: u32 = 512u;
const LANES: u32 = 64u; // few, with several pairs each: barriers cost drivers on a CPU more than the pairs do
const NONE: u32 = 0xffffffffu;

override NEW: bool = false;

struct Params {
  total: u32,
  capacity: u32,
  first: u32,
  last: u32,
}

@group(0) @binding(0) var<storage, read_write> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> places: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> key_of: array<u32, BLOCK>;
var<workgroup> place_of: array<u32, BLOCK>;

fn load(slot: u32, index: u32) {
  let inside = index < params.total;
  let at = select(0u, index, inside);
  key_of[slot] = select(NONE, keys[at], inside);
  place_of[slot] = select(places[at], index & (params.capacity - 1u), NEW);
}

fn store(slot: u32, index: u32) {
  if (index < params.total) {
    keys[index] = key_of[slot];
    places[index] = place_of[slot];
  }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let base = (group.x + group.y * groups.x) * BLOCK;
  for (var slot = lane; slot < BLOCK; slot += LANES) {
    load(slot, base + slot);
  }
  workgroupBarrier();
  for (var stage = params.first; stage <= params.last; stage *= 2u) {
    for (var apart = min(stage, BLOCK) / 2u; apart > 0u; apart /= 2u) {
      for (var pair = lane; pair < BLOCK / 2u; pair += LANES) {
        let low = pair / apart * 2u * apart + pair % apart;
        let high = low + apart;
        let rising = ((base + low) & (params.capacity - 1u) & stage) == 0u;
        let keys_here = vec2u(key_of[low], key_of[high]);
        let places_here = vec2u(place_of[low], place_of[high]);
        let wrong = keys_here.x > keys_here.y || (keys_here.x == keys_here.y && places_here.x > places_here.y);
        if (wrong == rising) {
          key_of[low] = keys_here.y;
          key_of[high] = keys_here.x;
          place_of[low] = places_here.y;
          place_of[high] = places_here.x;
        }
      }
      workgroupBarrier();
    }
  }
  for (var slot = lane; slot < BLOCK; slot += LANES) {
    store(slot, base + slot);
  }
}
