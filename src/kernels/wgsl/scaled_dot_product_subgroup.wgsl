// Scaled dot-product attention by subgroups: one subgroup, which is a workgroup, owns ROWS queries.
//
//   s[i, j] = scale Σ_d q[i, d] k[j, d] (+ mask[i, j]);   y[i] = Σ_j exp(s[i, j] − m[i]) v[j] / l[i];   m = max_j s,  l = Σ_j exp(s − m)
//
// Bindings and rules as in scaled_dot_product.wgsl; q, k [B · H, T or S, D] and v, y [B · H, S or T, E] as vec4, D and E multiples of 4.
// The keys come in blocks of 4 WIDTH, four to a lane. Their scores with all ROWS queries stay in registers; s[r] is query r. They
// are made as in matmul_subgroup.wgsl: a lane loads four queries and four keys, and hears the other queries from other lanes. Then each
// lane takes vec4 columns of v instead, and hears the weights. A new maximum scales all sums of its query down (flash attention, Dao and
// others 2022). Gradients: scaled_dot_product_grad_query_subgroup.wgsl, scaled_dot_product_grad_keys_subgroup.wgsl.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const ROWS: u32 = 8u; // @tune 4 8 16
const PARTS: u32 = 2u; // @tune 2 4 8
const BLOCK: u32 = 4u * WIDTH;
const SUMS: u32 = ROWS * PARTS;

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

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> stats: array<vec2f>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// SwiftShader's exp of a NaN is infinite.
fn exp_or_nan(x: vec4f) -> vec4f {
  return select(exp(x), x, is_nan(x));
}

fn mask_at(z: u32, i: vec4u, j: vec4u) -> vec4f {
  let at = vec4u(z / params.heads * params.mask_b + z % params.heads * params.mask_h) + i * params.mask_q + j * params.mask_k;
  return vec4f(mask[at.x], mask[at.y], mask[at.z], mask[at.w]);
}

// Keys that query i sees, counted from the first.
fn seen_by(i: u32) -> u32 {
  let end = i + 1u + params.keys;
  let before = select(0u, min(end - params.queries, params.keys), end > params.queries);
  return select(params.keys, before, CAUSAL);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row_tiles = (params.queries + ROWS - 1u) / ROWS;
  let tile = group.x + group.y * groups.x;
  if (tile >= params.batch * row_tiles) {
    return;
  }
  let z = tile / row_tiles;
  let row0 = tile % row_tiles * ROWS;
  let d4 = params.width / 4u;
  let e4 = params.values_width / 4u;
  let own = min(vec4u(row0 + 4u * min(lane, ROWS / 4u - 1u)) + vec4u(0u, 1u, 2u, 3u), vec4u(params.queries - 1u));
  let q_rows = (z * params.queries + own) * d4;
  let end = seen_by(min(row0 + ROWS, params.queries) - 1u); // beyond it, no query of the tile sees a key
  var acc: array<vec4f, SUMS>;
  var sums: array<vec4f, ROWS>; // of the weights, for each lane and component
  var most: array<f32, ROWS>;
  for (var r = 0u; r < ROWS; r++) { // @unroll
    most[r] = -3.4028234e38;
  }
  for (var key0 = 0u; key0 < end; key0 += BLOCK) {
    let key = vec4u(key0 + 4u * lane) + vec4u(0u, 1u, 2u, 3u);
    let near = min(key, vec4u(params.keys - 1u));
    let k_rows = (z * params.keys + near) * d4;
    var s = array<vec4f, ROWS>(); // with its zeros written out: lavapipe keeps what the step before left
    for (var d = 0u; d < d4; d++) {
      let a0 = q[q_rows.x + d];
      let a1 = q[q_rows.y + d];
      let a2 = q[q_rows.z + d];
      let a3 = q[q_rows.w + d];
      let b0 = k[k_rows.x + d];
      let b1 = k[k_rows.y + d];
      let b2 = k[k_rows.z + d];
      let b3 = k[k_rows.w + d];
      let ax = vec4f(a0.x, a1.x, a2.x, a3.x); // turned: component = row
      let ay = vec4f(a0.y, a1.y, a2.y, a3.y);
      let az = vec4f(a0.z, a1.z, a2.z, a3.z);
      let aw = vec4f(a0.w, a1.w, a2.w, a3.w);
      let bx = vec4f(b0.x, b1.x, b2.x, b3.x);
      let by = vec4f(b0.y, b1.y, b2.y, b3.y);
      let bz = vec4f(b0.z, b1.z, b2.z, b3.z);
      let bw = vec4f(b0.w, b1.w, b2.w, b3.w);
      for (var r = 0u; r < ROWS; r++) { // @unroll
        s[r] = s[r] + subgroupShuffle(ax[r % 4u], r / 4u) * bx + subgroupShuffle(ay[r % 4u], r / 4u) * by + subgroupShuffle(az[r % 4u], r / 4u) * bz + subgroupShuffle(aw[r % 4u], r / 4u) * bw;
      }
    }
    for (var r = 0u; r < ROWS; r++) { // @unroll
      let i = min(row0 + r, params.queries - 1u);
      let seen = key < vec4u(seen_by(i));
      var x = s[r] * params.scale;
      if (MASK) {
        x += mask_at(z, vec4u(i), near);
      }
      x = select(vec4f(-3.4028234e38), x, seen);
      let next = max(most[r], subgroupMax(max(max(x.x, x.y), max(x.z, x.w))));
      let shrink = exp(most[r] - next);
      let weight = select(vec4f(), exp_or_nan(x - next), seen);
      sums[r] = sums[r] * shrink + weight;
      most[r] = next;
      s[r] = weight;
      for (var part = 0u; part < PARTS; part++) { // @unroll
        acc[r * PARTS + part] *= shrink;
      }
    }
    for (var sender = 0u; sender < min(WIDTH, (end - key0 + 3u) / 4u); sender++) {
      let first = key0 + 4u * sender;
      var block: array<vec4f, 4u * PARTS>;
      for (var part = 0u; part < PARTS; part++) { // @unroll
        let column = min(part * WIDTH + lane, e4 - 1u);
        for (var c = 0u; c < 4u; c++) { // @unroll
          block[4u * part + c] = v[(z * params.keys + min(first + c, params.keys - 1u)) * e4 + column];
        }
      }
      for (var r = 0u; r < ROWS; r++) { // @unroll
        let w0 = subgroupShuffle(s[r].x, sender);
        let w1 = subgroupShuffle(s[r].y, sender);
        let w2 = subgroupShuffle(s[r].z, sender);
        let w3 = subgroupShuffle(s[r].w, sender);
        for (var part = 0u; part < PARTS; part++) { // @unroll
          if (CAUSAL) {
            let limit = seen_by(min(row0 + r, params.queries - 1u));
            acc[r * PARTS + part] += select(vec4f(), w0 * block[4u * part], vec4<bool>(first < limit));
            acc[r * PARTS + part] += select(vec4f(), w1 * block[4u * part + 1u], vec4<bool>(first + 1u < limit));
            acc[r * PARTS + part] += select(vec4f(), w2 * block[4u * part + 2u], vec4<bool>(first + 2u < limit));
            acc[r * PARTS + part] += select(vec4f(), w3 * block[4u * part + 3u], vec4<bool>(first + 3u < limit));
          } else {
            acc[r * PARTS + part] = acc[r * PARTS + part] + w0 * block[4u * part] + w1 * block[4u * part + 1u] + w2 * block[4u * part + 2u] + w3 * block[4u * part + 3u];
          }
        }
      }
    }
  }
  // The end runs once, so its loop stays rolled over copies: written out, it would take long to compile.
  var results: array<vec4f, SUMS>;
  var largest: array<f32, ROWS>;
  var totals: array<f32, ROWS>;
  for (var r = 0u; r < ROWS; r++) { // @unroll
    totals[r] = (sums[r].x + sums[r].y) + (sums[r].z + sums[r].w);
    largest[r] = most[r];
    for (var part = 0u; part < PARTS; part++) { // @unroll
      results[r * PARTS + part] = acc[r * PARTS + part];
    }
  }
  for (var r = 0u; r < min(ROWS, params.queries - row0); r++) {
    let row = z * params.queries + row0 + r;
    let sum = subgroupAdd(totals[r]);
    let nothing = vec4<bool>(sum == 0.0) & !is_nan(vec4f(sum));
    for (var part = 0u; part < PARTS; part++) {
      if (part * WIDTH + lane < e4) {
        y[row * e4 + part * WIDTH + lane] = select(results[r * PARTS + part] / sum, vec4f(), nothing);
      }
    }
    if (params.keep != 0u && lane == 0u) {
      stats[row] = vec2f(largest[r], sum);
    }
  }
}
