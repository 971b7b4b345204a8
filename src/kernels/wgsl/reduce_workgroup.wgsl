// Reduction over the last axis: one workgroup of LANES lanes owns a piece of a row, and joins in a tree in workgroup memory.
//
//   y[o, p] = scale · ⊕_j x[o, j]      j over piece p      ⊕ = sum, sum of squares, max or min; of a NaN, a NaN
//
// x [outer, n], y [outer, pieces]. It is what a GPU wants for few long rows; software drivers run barriers slowly. Of a long row, each
// piece is `chunk` long, so that a whole GPU works; a second launch joins the pieces.
const SUM: u32 = 0u;
const SUM_SQUARES: u32 = 1u;
const MAX: u32 = 2u;
const LANES: u32 = 128u;

override KIND: u32 = 0u;

struct Params {
  outer: u32,
  n: u32,
  pieces: u32,
  chunk: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> partial: array<f32, LANES>;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// The larger or the smaller of two numbers; a NaN stays.
fn extreme(acc: f32, value: f32) -> f32 {
  let chosen = select(min(acc, value), max(acc, value), KIND == MAX);
  return select(select(chosen, value, is_nan(value)), acc, is_nan(acc));
}

fn combine(acc: f32, value: f32) -> f32 {
  if (KIND >= MAX) {
    return extreme(acc, value);
  }
  return acc + value;
}

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

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let owned = group.x + group.y * groups.x;
  let lane = local.x;
  let base = min(owned / params.pieces, params.outer - 1u) * params.n;
  let first = owned % params.pieces * params.chunk;
  let end = min(first + params.chunk, params.n);
  var acc = select(0.0, x[base + first], KIND >= MAX);
  var sum = LongSum();
  for (var j = first + lane; j < end; j += LANES) {
    let value = x[base + j];
    if (KIND >= MAX) {
      acc = extreme(acc, value);
    } else {
      add(&sum, select(value, value * value, KIND == SUM_SQUARES));
    }
  }
  if (KIND < MAX) {
    acc = total(sum);
  }
  partial[lane] = acc;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      partial[lane] = combine(partial[lane], partial[lane + half]);
    }
  }
  if (lane == 0u && owned < params.outer * params.pieces) {
    y[owned] = partial[0] * params.scale;
  }
}
