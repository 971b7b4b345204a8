// Gradient of scaled dot-product attention by keys and values, with tiles in workgroup memory, for GPUs: one workgroup owns 32 keys.
//
//   dk[j] = scale Σ_i ds[i, j] q[i];   dv[j] = Σ_i p[i, j] dy[i]         p, ds as in scaled_dot_product_grad_query.wgsl
//
// Bindings as in scaled_dot_product_grad_keys.wgsl; D and E up to 32 PARTS. Tiles as in scaled_dot_product_grad_query_workgroup.wgsl, with
// queries and keys exchanged.
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
}

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
@group(0) @binding(5) var<storage, read> rows: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> dk: array<f32>;
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> a_tile: array<f32, TILE * TILE>;
var<workgroup> b_tile: array<f32, TILE * TILE>;
var<workgroup> weights: array<f32, TILE * TILE>; // p, later ds, [key][query]

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

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let row_tiles = (params.keys + TILE - 1u) / TILE;
  let tile = group.x + group.y * groups.x;
  if (tile >= params.batch * row_tiles) {
    return;
  }
  let z = tile / row_tiles;
  let row0 = tile % row_tiles * TILE;
  let own = local / LANES; // the row of this invocation within the tile
  let lane = local % LANES; // its columns are lane, lane + 8, lane + 16, lane + 24 of each block
  let j = row0 + own;
  let near = min(j, params.keys - 1u);
  var dk_acc: array<vec4f, PARTS>;
  var dv_acc: array<vec4f, PARTS>;
  // With CAUSAL, queries before this one see no key of the tile.
  let start = select(0u, row0 + params.queries - params.keys, CAUSAL && row0 + params.queries > params.keys);
  for (var query0 = start; query0 < params.queries; query0 += TILE) {
    let count = min(TILE, params.queries - query0);
    var s = vec4f();
    for (var column0 = 0u; column0 < params.width; column0 += TILE) {
      workgroupBarrier();
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = row0 + at / TILE;
      let column = column0 + at % TILE;
      var value = 0.0;
      if (row < params.keys && column < params.width) {
        value = k[(z * params.keys + row) * params.width + column];
      }
      a_tile[at] = value;
    }
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = query0 + at / TILE;
      let column = column0 + at % TILE;
      var value = 0.0;
      if (row < params.queries && column < params.width) {
        value = q[(z * params.queries + row) * params.width + column];
      }
      b_tile[at] = value;
    }
      workgroupBarrier();
      for (var c = 0u; c < min(TILE, params.width - column0); c++) {
        let value = a_tile[own * TILE + c];
        s += value * vec4f(b_tile[lane * TILE + c], b_tile[(lane + 8u) * TILE + c], b_tile[(lane + 16u) * TILE + c], b_tile[(lane + 24u) * TILE + c]);
      }
    }
    var dp = vec4f();
    for (var column0 = 0u; column0 < params.values_width; column0 += TILE) {
      workgroupBarrier();
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = row0 + at / TILE;
      let column = column0 + at % TILE;
      var value = 0.0;
      if (row < params.keys && column < params.values_width) {
        value = v[(z * params.keys + row) * params.values_width + column];
      }
      a_tile[at] = value;
    }
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = query0 + at / TILE;
      let column = column0 + at % TILE;
      var value = 0.0;
      if (row < params.queries && column < params.values_width) {
        value = dy[(z * params.queries + row) * params.values_width + column];
      }
      b_tile[at] = value;
    }
      workgroupBarrier();
      for (var c = 0u; c < min(TILE, params.values_width - column0); c++) {
        let value = a_tile[own * TILE + c];
        dp += value * vec4f(b_tile[lane * TILE + c], b_tile[(lane + 8u) * TILE + c], b_tile[(lane + 16u) * TILE + c], b_tile[(lane + 24u) * TILE + c]);
      }
    }
    var ds = vec4f();
    for (var c = 0u; c < 4u; c++) {
      let query = query0 + lane + 8u * c;
      let i = min(query, params.queries - 1u);
      let known = rows[z * params.queries + i];
      var x = s[c] * params.scale;
      if (MASK) {
        x += mask_at(z, i, near);
      }
      let p = exp_or_nan(x - known.x) * known.y;
      let seen = query < params.queries && near < seen_by(i) && (known.y != 0.0 || is_nan(known.y));
      ds[c] = select(0.0, params.scale * p * (dp[c] - known.z), seen);
      weights[own * TILE + lane + 8u * c] = select(0.0, p, seen);
    }
    for (var part = 0u; part < PARTS; part++) { // @unroll
      workgroupBarrier();
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = query0 + at / TILE;
      let column = part * TILE + at % TILE;
      var value = 0.0;
      if (row < params.queries && column < params.values_width) {
        value = dy[(z * params.queries + row) * params.values_width + column];
      }
      b_tile[at] = value;
    }
      workgroupBarrier();
      for (var c = 0u; c < count; c++) {
        if (j < seen_by(query0 + c)) {
          dv_acc[part] += weights[own * TILE + c] * vec4f(b_tile[c * TILE + lane], b_tile[c * TILE + lane + 8u], b_tile[c * TILE + lane + 16u], b_tile[c * TILE + lane + 24u]);
        }
      }
    }
    workgroupBarrier();
    for (var c = 0u; c < 4u; c++) {
      weights[own * TILE + lane + 8u * c] = ds[c];
    }
    for (var part = 0u; part < PARTS; part++) { // @unroll
      workgroupBarrier();
    for (var at = local; at < TILE * TILE; at += 256u) {
      let row = query0 + at / TILE;
      let column = part * TILE + at % TILE;
      var value = 0.0;
      if (row < params.queries && column < params.width) {
        value = q[(z * params.queries + row) * params.width + column];
      }
      b_tile[at] = value;
    }
      workgroupBarrier();
      for (var c = 0u; c < count; c++) {
        if (j < seen_by(query0 + c)) {
          dk_acc[part] += weights[own * TILE + c] * vec4f(b_tile[c * TILE + lane], b_tile[c * TILE + lane + 8u], b_tile[c * TILE + lane + 16u], b_tile[c * TILE + lane + 24u]);
        }
      }
    }
  }
  if (j >= params.keys) {
    return;
  }
  let row = z * params.keys + j;
  for (var part = 0u; part < PARTS; part++) { // @unroll
    for (var c = 0u; c < 4u; c++) {
      let column = part * TILE + lane + 8u * c;
      if (column < params.width) {
        dk[row * params.width + column] = dk_acc[part][c];
      }
      if (column < params.values_width) {
        dv[row * params.values_width + column] = dv_acc[part][c];
      }
    }
  }
}
