// Reduction over the middle axis: one invocation owns one result.
//
//   y[o, i] = scale · ⊕_j x[o, j, i]      ⊕ = sum (of x, x² or |x|), max, min or product; of a NaN, a NaN
//
// x [outer, n, inner], y [outer, inner]. Neighboring invocations read neighboring elements when inner > 1. The launcher cuts
// long rows with few results into pieces and reduces twice. A sum runs in eight sums side by side, whose parts of 64 terms go
// through levels of eight. The error of a long sum grows with the terms in a row. reduce_workgroup.wgsl gives a row to a
// workgroup.
const SUM: u32 = 0u;
const SUM_SQUARES: u32 = 1u;
const MAX: u32 = 2u;
const MIN: u32 = 3u;
const SUM_ABS: u32 = 4u;
const PRODUCT: u32 = 5u;

override KIND: u32 = 0u;

struct Params {
  outer: u32,
  n: u32,
  inner: u32,
  chunk: u32, // a result covers at most this many of n; pieces of a row follow each other in y
  scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

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
  switch (KIND) {
    case SUM: {
      return acc + value;
    }
    case SUM_SQUARES: {
      return acc + value * value;
    }
    case SUM_ABS: {
      return acc + abs(value);
    }
    case PRODUCT: {
      return acc * value;
    }
    default: {
      return extreme(acc, value);
    }
  }
}

fn is_sum() -> bool {
  return KIND != MAX && KIND != MIN && KIND != PRODUCT;
}

fn starting(first: f32) -> f32 {
  return select(select(0.0, first, KIND == MAX || KIND == MIN), 1.0, KIND == PRODUCT);
}

// Sums of parts, of 8 parts, of 64 and of 512, of which none but the last ever has more than eight terms.
fn add_part(sums: ptr<function, vec4f>, part: f32, parts: u32) {
  (*sums).x += part;
  if (parts % 8u == 0u) {
    (*sums).y += (*sums).x;
    (*sums).x = 0.0;
    if (parts % 64u == 0u) {
      (*sums).z += (*sums).y;
      (*sums).y = 0.0;
      if (parts % 512u == 0u) {
        (*sums).w += (*sums).z;
        (*sums).z = 0.0;
      }
    }
  }
}

fn total(low: vec4f, high: vec4f) -> f32 {
  let quarter = low + high;
  return (quarter.x + quarter.y) + (quarter.z + quarter.w);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  let pieces = (params.n + params.chunk - 1u) / params.chunk;
  if (index >= params.outer * pieces * params.inner) {
    return;
  }
  let i = index % params.inner;
  let piece = (index / params.inner) % pieces;
  let o = index / params.inner / pieces;
  let first = piece * params.chunk;
  let end = min(params.n, first + params.chunk);
  let base = o * params.n * params.inner + i;
  let start = starting(x[base + first * params.inner]);
  var low = vec4f(start);
  var high = vec4f(start);
  var sums = vec4f();
  var rounds = 0u;
  var j = first;
  for (; j + 8u <= end; j += 8u) {
    let at = base + j * params.inner;
    low = vec4f(combine(low.x, x[at]), combine(low.y, x[at + params.inner]), combine(low.z, x[at + 2u * params.inner]), combine(low.w, x[at + 3u * params.inner]));
    high = vec4f(combine(high.x, x[at + 4u * params.inner]), combine(high.y, x[at + 5u * params.inner]), combine(high.z, x[at + 6u * params.inner]), combine(high.w, x[at + 7u * params.inner]));
    rounds++;
    if (is_sum() && rounds % 8u == 0u) {
      add_part(&sums, total(low, high), rounds / 8u);
      low = vec4f();
      high = vec4f();
    }
  }
  for (; j < end; j++) {
    low.x = combine(low.x, x[base + j * params.inner]);
  }
  var result: f32;
  if (!is_sum()) {
    let quarter = vec4f(combine(low.x, high.x), combine(low.y, high.y), combine(low.z, high.z), combine(low.w, high.w));
    result = combine(combine(quarter.x, quarter.y), combine(quarter.z, quarter.w));
  } else {
    result = ((total(low, high) + sums.x) + sums.y) + (sums.z + sums.w);
  }
  y[index] = result * params.scale;
}
