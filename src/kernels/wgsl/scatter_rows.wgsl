// Scatter of rows: joins each row of y with the updates that select it, in their order.
//
//   y[row] = y[row] ⊕ updates[u₁] ⊕ updates[u₂] …      ⊕ = the later one, +, ·, max or min; or 0 as soon as one selects it
//
// updates [U, width]; keys, places [U or more]: the rows that they select, sorted, and which update selects each; y [V, width]. One
// invocation owns one element of an update; those of the first of a row walk all of the row. So no two write one element, and
// the order of a sum is always the same. Updates whose row is unknown are left out; if `strict`, all are left out then.
const UNKNOWN: u32 = 0xfffffffeu;
const ADD: u32 = 1u;
const MUL: u32 = 2u;
const MAX: u32 = 3u;
const MIN: u32 = 4u;
const ZERO: u32 = 5u;

override KIND: u32 = 0u;

struct Params {
  count: u32, // U width
  updates: u32, // U
  width: u32,
  strict: u32,
}

@group(0) @binding(0) var<storage, read> updates: array<u32>;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

// A sum of many terms, as in embedding_grad.wgsl: of single ones, and of 8, 64, 512 and 4,096 together.
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

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// A product, or the larger or the smaller of two numbers; a NaN stays.
fn joined(old: f32, value: f32) -> f32 {
  if (KIND == MUL) {
    return old * value;
  }
  let chosen = select(min(old, value), max(old, value), KIND == MAX);
  return select(select(chosen, value, is_nan(value)), old, is_nan(old));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let first = i / params.width;
  let e = i % params.width;
  let row = keys[first];
  let follows = first > 0u && keys[max(first, 1u) - 1u] == row;
  let refused = params.strict == 1u && keys[params.updates - 1u] >= UNKNOWN;
  if (row >= UNKNOWN || follows || refused) {
    return;
  }
  let at = row * params.width + e;
  var word = y[at];
  var sum = LongSum();
  if (KIND == ADD) {
    add(&sum, bitcast<f32>(word));
  }
  for (var next = first; next < params.updates && keys[next] == row; next++) {
    let own = updates[places[next] * params.width + e];
    if (KIND == ADD) {
      add(&sum, bitcast<f32>(own));
    } else if (KIND == MUL || KIND == MAX || KIND == MIN) {
      word = bitcast<u32>(joined(bitcast<f32>(word), bitcast<f32>(own)));
    } else {
      word = own;
    }
  }
  if (KIND == ADD) {
    word = bitcast<u32>(total(sum));
  }
  y[at] = select(word, 0u, KIND == ZERO);
}
