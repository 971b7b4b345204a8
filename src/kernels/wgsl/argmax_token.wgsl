// The likeliest token of each row of logits and its log-probability.
//
//   token[r] = argmax_{j ≥ skip_below} x[r, j];   log_prob[r] = x[r, token[r]] − log Σ_j exp x[r, j]       (ties: the lower j)
//
// x [rows, n]; token, log_prob [rows]. A NaN counts as the largest, as in PyTorch. LANES invocations share a row, and a workgroup
// owns ROWS rows: with LANES = 1 there is no barrier, which software drivers run slowly. Greedy decoding needs no other
// log-probability: one pass over the logits takes the place of a log-softmax and a search. Maximum and sum come from that pass
// (Milakov and Gimelshein 2018).
override LANES: u32 = 1u; // @launch
override ROWS: u32 = 64u; // @launch

struct Params {
  rows: u32,
  n: u32,
  skip_below: u32, // ids below this one are never taken (special tokens), but have their share of the sum
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> token: array<u32>;
@group(0) @binding(2) var<storage, read_write> log_prob: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Seen {
  most: f32,
  sum: f32, // of exp(x − most)
  best: u32, // in order()
  best_at: u32,
}

var<workgroup> tree: array<Seen, LANES * ROWS>;

// By the bits, because compilers take x != x for false.
fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// SwiftShader's exp of a NaN is infinite, its logarithm a number.
fn exp_or_nan(x: f32) -> f32 {
  return select(exp(x), x, is_nan(x));
}

fn log_or_nan(x: f32) -> f32 {
  return select(log(x), x, is_nan(x));
}

// Numbers in rising order as whole numbers above 0: −0 is 0, and a NaN comes last, whatever its sign.
fn order(x: f32) -> u32 {
  let magnitude = bitcast<u32>(x) & 0x7fffffffu;
  let place = select(0x80000000u + magnitude, 0x80000000u - magnitude, bitcast<i32>(x) < 0);
  return select(place, 0xffffffffu, magnitude > 0x7f800000u);
}

fn join(a: Seen, b: Seen) -> Seen {
  let most = max(a.most, b.most);
  let sum = a.sum * exp(a.most - most) + b.sum * exp(b.most - most);
  if (b.best > a.best || (b.best == a.best && b.best_at < a.best_at)) {
    return Seen(most, sum, b.best, b.best_at);
  }
  return Seen(most, sum, a.best, a.best_at);
}

@compute @workgroup_size(LANES, ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let slot = local.y * LANES + local.x;
  let row = (group.x + group.y * groups.x) * ROWS + local.y;
  let base = min(row, params.rows - 1u) * params.n;
  var seen = Seen(-3.4028234e38, 0.0, 0u, 0xffffffffu);
  for (var j = local.x; j < params.n; j += LANES) {
    let value = x[base + j];
    let most = max(seen.most, value);
    seen.sum = seen.sum * exp(seen.most - most) + exp_or_nan(value - most);
    seen.most = most;
    let place = order(value);
    if (j >= params.skip_below && place > seen.best) {
      seen.best = place;
      seen.best_at = j;
    }
  }
  if (LANES > 1u) {
    tree[slot] = seen;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
      workgroupBarrier();
      if (local.x < half) {
        tree[slot] = join(tree[slot], tree[slot + half]);
      }
    }
    workgroupBarrier();
    seen = tree[local.y * LANES];
  }
  if (local.x == 0u && row < params.rows) {
    token[row] = seen.best_at;
    log_prob[row] = x[base + seen.best_at] - seen.most - log_or_nan(seen.sum);
  }
}
