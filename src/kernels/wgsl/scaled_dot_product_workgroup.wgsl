// Scaled dot-product attention with tiles in workgroup memory, for GPUs: one workgroup owns 32 queries.
//
//   s[i, j] = scale Σ_d q[i, d] k[j, d] (+ mask[i, j]);   y[i] = Σ_j exp(s[i, j] − m[i]) v[j] / l[i];   m = max_j s,  l = Σ_j exp(s − m)
//
// Bindings and rules as in scaled_dot_product.wgsl; any D, and E up to 32 PARTS. A query belongs to 8 of the 256 invocations. The keys come
// in blocks of 32: the workgroup loads tiles of q and k together, and each invocation makes four scores. They join in workgroup memory,
// where the weights stay for the product with a tile of v. A new maximum scales the sums down (flash attention, Dao and others 2022).
const PARTS: u32 = 2u; // @tune 2 4 8
const TILE: u32 = 32u; // rows of a workgroup, keys of a step, columns of a block
const LANES: u32 = 8u; // invocations that share a row

override MASK: bool = false;
override CAUSAL: bool = false;

struct Params {
  batch: u32, // B · H
  heads: u32, // H
  queries: u32, // T
  keys: u32, // S
  width: u32, // D, of queries and keys
  values_width: u32, // E
  scale: f32,
  mask_b: u32, // elements of the mask from one index of an axis to the next; 0 repeats
  mask_h: u32,
  mask_q: u32,
  mask_k: u32,
  keep: u32, // whether stats are kept
}

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec2f>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> a_tile: array<f32, TILE * TILE>;
var<workgroup> b_tile: array<f32, TILE * TILE>;
var<workgroup> weights: array<f32, TILE * TILE>; // [query][key]
var<workgroup> partial: array<f32, TILE * LANES>;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// SwiftShader's exp of a NaN is infinite.
fn exp_or_nan(x: f32) -> f32 {
  return select(exp(x), x, is_nan(x));
}

fn mask_at(z: u32, i: u32, j: u32) -> f32 {
  return mask[z / params.heads * params.mask_b + z % params.heads * params.mask_h + i * params.mask_q + j * params.mask_k];
}

// Keys that query i sees, counted from the first.
fn seen_by(i: u32) -> u32 {
  let end = i + 1u + params.keys;
  let before = select(0u, min(end - params.queries, params.keys), end > params.queries);
  return select(params.keys, before, CAUSAL);
}

// The maximum of one number of each of the 8 invocations of a query.
fn largest_of(value: f32, own: u32, lane: u32) -> f32 {
  workgroupBarrier();
  partial[own * LANES + lane] = value;
  workgroupBarrier();
  var largest = partial[own * LANES];
  for (var other = 1u; other < LANES; other++) {
    largest = max(largest, partial[own * LANES + other]);
  }
  return largest;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let row_tiles = (params.queries + TILE - 1u) / TILE;
  let tile = group.x + group.y * groups.x;
  if (tile >= params.batch * row_tiles) {
    return;
  }
  let z = tile / row_tiles;
  let row0 = tile % row_tiles * TILE;
  let own = local / LANES; // the row of this invocation within the tile
  let lane = local % LANES; // its columns are lane, lane + 8, lane + 16, lane + 24 of each block
  let i = min(row0 + own, params.queries - 1u);
  let limit = seen_by(i);
  let end = seen_by(min(row0 + TILE, params.queries) - 1u); // beyond it, no query of the tile sees a key
  var acc: array<vec4f, PARTS>;
  var most = -3.4028234e38;
  var sum = 0.0;
  for (var key0 = 0u; key0 < end; key0 += TILE) {
    var s = vec4f();
    for (var column0 = 0u; column0 < params.width; column0 += TILE) {
      workgroupBarrier();
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = row0 + at / TILE;
      let column = column0 + at % TILE;
      var value = 0.0;
      if (row < params.queries && column < params.width) {
        value = q[(z * params.queries + row) * params.width + column];
      }
      a_tile[at] = value;
    }
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = key0 + at / TILE;
      let column = column0 + at % TILE;
      var value = 0.0;
      if (row < params.keys && column < params.width) {
        value = k[(z * params.keys + row) * params.width + column];
      }
      b_tile[at] = value;
    }
      workgroupBarrier();
      for (var c = 0u; c < min(TILE, params.width - column0); c++) {
        let value = a_tile[own * TILE + c];
        s += value * vec4f(b_tile[lane * TILE + c], b_tile[(lane + 8u) * TILE + c], b_tile[(lane + 16u) * TILE + c], b_tile[(lane + 24u) * TILE + c]);
      }
    }
    let key = vec4u(key0 + lane) + vec4u(0u, 8u, 16u, 24u);
    let seen = key < vec4u(limit);
    s *= params.scale;
    if (MASK) {
      let near = min(key, vec4u(params.keys - 1u));
      s += vec4f(mask_at(z, i, near.x), mask_at(z, i, near.y), mask_at(z, i, near.z), mask_at(z, i, near.w));
    }
    s = select(vec4f(-3.4028234e38), s, seen);
    let next = max(most, largest_of(max(max(s.x, s.y), max(s.z, s.w)), own, lane));
    let shrink = exp(most - next);
    let weight = select(vec4f(), vec4f(exp_or_nan(s.x - next), exp_or_nan(s.y - next), exp_or_nan(s.z - next), exp_or_nan(s.w - next)), seen);
    sum = sum * shrink + (weight.x + weight.y) + (weight.z + weight.w);
    most = next;
    for (var c = 0u; c < 4u; c++) {
      weights[own * TILE + lane + 8u * c] = weight[c];
    }
    for (var part = 0u; part < PARTS; part++) { // @unroll
      workgroupBarrier();
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = key0 + at / TILE;
      let column = part * TILE + at % TILE;
      var value = 0.0;
      if (row < params.keys && column < params.values_width) {
        value = v[(z * params.keys + row) * params.values_width + column];
      }
      b_tile[at] = value;
    }
      workgroupBarrier();
      acc[part] *= shrink;
      for (var c = 0u; c < min(TILE, max(limit, key0) - key0); c++) {
        acc[part] += weights[own * TILE + c] * vec4f(b_tile[c * TILE + lane], b_tile[c * TILE + lane + 8u], b_tile[c * TILE + lane + 16u], b_tile[c * TILE + lane + 24u]);
      }
    }
  }
  workgroupBarrier();
  partial[own * LANES + lane] = sum;
  workgroupBarrier();
  var total = 0.0;
  for (var other = 0u; other < LANES; other++) {
    total += partial[own * LANES + other];
  }
  if (row0 + own >= params.queries) {
    return;
  }
  let row = z * params.queries + row0 + own;
  let nothing = total == 0.0 && !is_nan(total);
  for (var part = 0u; part < PARTS; part++) { // @unroll
    for (var c = 0u; c < 4u; c++) {
      let column = part * TILE + lane + 8u * c;
      if (column < params.values_width) {
        y[row * params.values_width + column] = select(acc[part][c] / total, 0.0, nothing);
      }
    }
  }
  if (params.keep != 0u && lane == 0u) {
    stats[row] = vec2f(most, total);
  }
}
