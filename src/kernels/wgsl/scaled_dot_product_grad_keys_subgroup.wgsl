// Gradient of scaled dot-product attention by keys and values, by subgroups: one subgroup, which is a workgroup, owns ROWS keys.
//
//   dk[j] = scale Σ_i ds[i, j] q[i];   dv[j] = Σ_i p[i, j] dy[i]         p, ds as in scaled_dot_product_grad_query.wgsl
//
// Bindings as in scaled_dot_product_grad_keys.wgsl, with vec4 for q, k, v, dy, dk and dv; D and E multiples of 4. As in
// scaled_dot_product_grad_query_subgroup.wgsl, with queries and keys exchanged: s[r] is key r with four queries of each lane.
enable subgroups;

const WIDTH: u32 = 8u; // @tune 4 8
const ROWS: u32 = 8u; // @tune 4 8
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
}

@group(0) @binding(0) var<storage, read> q: array<vec4f>;
@group(0) @binding(1) var<storage, read> k: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<vec4f>;
@group(0) @binding(5) var<storage, read> rows: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> dv: array<vec4f>;
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

// Keys that query i sees, counted from the first; none if there is no such query.
fn seen_by(i: u32) -> u32 {
  let end = i + 1u + params.keys;
  let before = select(0u, min(end - params.queries, params.keys), end > params.queries);
  return select(0u, select(params.keys, before, CAUSAL), i < params.queries);
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let row_tiles = (params.keys + ROWS - 1u) / ROWS;
  let tile = group.x + group.y * groups.x;
  if (tile >= params.batch * row_tiles) {
    return;
  }
  let z = tile / row_tiles;
  let row0 = tile % row_tiles * ROWS;
  let d4 = params.width / 4u;
  let e4 = params.values_width / 4u;
  let own = min(vec4u(row0 + 4u * min(lane, ROWS / 4u - 1u)) + vec4u(0u, 1u, 2u, 3u), vec4u(params.keys - 1u));
  let k_rows = (z * params.keys + own) * d4;
  let v_rows = (z * params.keys + own) * e4;
  var dk_acc: array<vec4f, SUMS>;
  var dv_acc: array<vec4f, SUMS>;
  // With CAUSAL, queries before this one see no key of the tile.
  let start = select(0u, row0 + params.queries - params.keys, CAUSAL && row0 + params.queries > params.keys);
  for (var query0 = start; query0 < params.queries; query0 += BLOCK) {
    let query = vec4u(query0 + 4u * lane) + vec4u(0u, 1u, 2u, 3u);
    let near = min(query, vec4u(params.queries - 1u));
    let q_rows = (z * params.queries + near) * d4;
    let dy_rows = (z * params.queries + near) * e4;
    var s = array<vec4f, ROWS>(); // with its zeros written out: lavapipe keeps what the step before left
    var dp = array<vec4f, ROWS>();
    for (var d = 0u; d < d4; d++) {
      let a0 = k[k_rows.x + d];
      let a1 = k[k_rows.y + d];
      let a2 = k[k_rows.z + d];
      let a3 = k[k_rows.w + d];
      let b0 = q[q_rows.x + d];
      let b1 = q[q_rows.y + d];
      let b2 = q[q_rows.z + d];
      let b3 = q[q_rows.w + d];
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
    for (var e = 0u; e < e4; e++) {
      let a0 = v[v_rows.x + e];
      let a1 = v[v_rows.y + e];
      let a2 = v[v_rows.z + e];
      let a3 = v[v_rows.w + e];
      let b0 = dy[dy_rows.x + e];
      let b1 = dy[dy_rows.y + e];
      let b2 = dy[dy_rows.z + e];
      let b3 = dy[dy_rows.w + e];
      let ax = vec4f(a0.x, a1.x, a2.x, a3.x); // turned: component = row
      let ay = vec4f(a0.y, a1.y, a2.y, a3.y);
      let az = vec4f(a0.z, a1.z, a2.z, a3.z);
      let aw = vec4f(a0.w, a1.w, a2.w, a3.w);
      let bx = vec4f(b0.x, b1.x, b2.x, b3.x);
      let by = vec4f(b0.y, b1.y, b2.y, b3.y);
      let bz = vec4f(b0.z, b1.z, b2.z, b3.z);
      let bw = vec4f(b0.w, b1.w, b2.w, b3.w);
      for (var r = 0u; r < ROWS; r++) { // @unroll
        dp[r] = dp[r] + subgroupShuffle(ax[r % 4u], r / 4u) * bx + subgroupShuffle(ay[r % 4u], r / 4u) * by + subgroupShuffle(az[r % 4u], r / 4u) * bz + subgroupShuffle(aw[r % 4u], r / 4u) * bw;
      }
    }
    let known0 = rows[z * params.queries + near.x];
    let known1 = rows[z * params.queries + near.y];
    let known2 = rows[z * params.queries + near.z];
    let known3 = rows[z * params.queries + near.w];
    let most = vec4f(known0.x, known1.x, known2.x, known3.x);
    let inverse = vec4f(known0.y, known1.y, known2.y, known3.y);
    let delta = vec4f(known0.z, known1.z, known2.z, known3.z);
    let counted = (inverse != vec4f()) | is_nan(inverse);
    let limit = vec4u(seen_by(query.x), seen_by(query.y), seen_by(query.z), seen_by(query.w));
    for (var r = 0u; r < ROWS; r++) { // @unroll
      let j = min(row0 + r, params.keys - 1u);
      let seen = (vec4u(j) < limit) & counted;
      var x = s[r] * params.scale;
      if (MASK) {
        x += mask_at(z, near, vec4u(j));
      }
      let p = exp_or_nan(x - most) * inverse;
      dp[r] = select(vec4f(), params.scale * p * (dp[r] - delta), seen);
      s[r] = select(vec4f(), p, seen);
    }
    for (var sender = 0u; sender < min(WIDTH, (params.queries - query0 + 3u) / 4u); sender++) {
      let first = query0 + 4u * sender;
      let limits = vec4u(seen_by(first), seen_by(first + 1u), seen_by(first + 2u), seen_by(first + 3u));
      var block: array<vec4f, 4u * PARTS>;
      for (var part = 0u; part < PARTS; part++) { // @unroll
        let column = min(part * WIDTH + lane, e4 - 1u);
        for (var c = 0u; c < 4u; c++) { // @unroll
          block[4u * part + c] = dy[(z * params.queries + min(first + c, params.queries - 1u)) * e4 + column];
        }
      }
      for (var r = 0u; r < ROWS; r++) { // @unroll
        let w0 = subgroupShuffle(s[r].x, sender);
        let w1 = subgroupShuffle(s[r].y, sender);
        let w2 = subgroupShuffle(s[r].z, sender);
        let w3 = subgroupShuffle(s[r].w, sender);
        for (var part = 0u; part < PARTS; part++) { // @unroll
          if (CAUSAL) {
            dv_acc[r * PARTS + part] += select(vec4f(), w0 * block[4u * part], vec4<bool>(row0 + r < limits.x));
            dv_acc[r * PARTS + part] += select(vec4f(), w1 * block[4u * part + 1u], vec4<bool>(row0 + r < limits.y));
            dv_acc[r * PARTS + part] += select(vec4f(), w2 * block[4u * part + 2u], vec4<bool>(row0 + r < limits.z));
            dv_acc[r * PARTS + part] += select(vec4f(), w3 * block[4u * part + 3u], vec4<bool>(row0 + r < limits.w));
          } else {
            dv_acc[r * PARTS + part] = dv_acc[r * PARTS + part] + w0 * block[4u * part] + w1 * block[4u * part + 1u] + w2 * block[4u * part + 2u] + w3 * block[4u * part + 3u];
          }
        }
      }
      for (var part = 0u; part < PARTS; part++) { // @unroll
        let column = min(part * WIDTH + lane, d4 - 1u);
        for (var c = 0u; c < 4u; c++) { // @unroll
          block[4u * part + c] = q[(z * params.queries + min(first + c, params.queries - 1u)) * d4 + column];
        }
      }
      for (var r = 0u; r < ROWS; r++) { // @unroll
        let w0 = subgroupShuffle(dp[r].x, sender);
        let w1 = subgroupShuffle(dp[r].y, sender);
        let w2 = subgroupShuffle(dp[r].z, sender);
        let w3 = subgroupShuffle(dp[r].w, sender);
        for (var part = 0u; part < PARTS; part++) { // @unroll
          if (CAUSAL) {
            dk_acc[r * PARTS + part] += select(vec4f(), w0 * block[4u * part], vec4<bool>(row0 + r < limits.x));
            dk_acc[r * PARTS + part] += select(vec4f(), w1 * block[4u * part + 1u], vec4<bool>(row0 + r < limits.y));
            dk_acc[r * PARTS + part] += select(vec4f(), w2 * block[4u * part + 2u], vec4<bool>(row0 + r < limits.z));
            dk_acc[r * PARTS + part] += select(vec4f(), w3 * block[4u * part + 3u], vec4<bool>(row0 + r < limits.w));
          } else {
            dk_acc[r * PARTS + part] = dk_acc[r * PARTS + part] + w0 * block[4u * part] + w1 * block[4u * part + 1u] + w2 * block[4u * part + 2u] + w3 * block[4u * part + 3u];
          }
        }
      }
    }
  }
  // The end runs once, so its loop stays rolled over copies: written out, it would take long to compile.
  var of_keys: array<vec4f, SUMS>;
  var of_values: array<vec4f, SUMS>;
  for (var r = 0u; r < ROWS; r++) { // @unroll
    for (var part = 0u; part < PARTS; part++) { // @unroll
      of_keys[r * PARTS + part] = dk_acc[r * PARTS + part];
      of_values[r * PARTS + part] = dv_acc[r * PARTS + part];
    }
  }
  for (var r = 0u; r < min(ROWS, params.keys - row0); r++) {
    let row = z * params.keys + row0 + r;
    for (var part = 0u; part < PARTS; part++) {
      let column = part * WIDTH + lane;
      if (column < d4) {
        dk[row * d4 + column] = of_keys[r * PARTS + part];
      }
      if (column < e4) {
        dv[row * e4 + column] = of_values[r * PARTS + part];
      }
    }
  }
}
