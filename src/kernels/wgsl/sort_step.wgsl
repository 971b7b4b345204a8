// Bitonic sort of rows, one step between blocks: puts elements that lie `apart` in order.
//
// keys, places [total]: rows of `capacity` elements, both powers of two; see sort_block.wgsl. One invocation owns one pair.
struct Params {
  pairs: u32, // total / 2
  capacity: u32,
  stage: u32,
  apart: u32,
}

@group(0) @binding(0) var<storage, read_write> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> places: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let pair = id.x + id.y * groups.x * 64u;
  if (pair >= params.pairs) {
    return;
  }
  let low = pair / params.apart * 2u * params.apart + pair % params.apart;
  let high = low + params.apart;
  let rising = (low & (params.capacity - 1u) & params.stage) == 0u;
  let keys_here = vec2u(keys[low], keys[high]);
  let places_here = vec2u(places[low], places[high]);
  let wrong = keys_here.x > keys_here.y || (keys_here.x == keys_here.y && places_here.x > places_here.y);
  if (wrong == rising) {
    keys[low] = keys_here.y;
    keys[high] = keys_here.x;
    places[low] = places_here.y;
    places[high] = places_here.x;
  }
}
