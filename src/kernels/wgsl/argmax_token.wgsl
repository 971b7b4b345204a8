// The likeliest word of each row of logits and its log-probability, versions 1 and 3: LANES invocations share a row, ROWS rows a
// workgroup (see softmax.wgsl).
//
//   word[r] = argmax_{j ≥ skip_below} x[r, j];   log_prob[r] = x[r, word] − log Σ_j exp x[r, j]       (ties: the lower j)
//
// x [rows, n]; word, log_prob [rows]. Greedy decoding needs no other log-probability: one pass over the logits instead of a
// log-softmax (three passes and a store) and a search. Maximum and sum come from that one pass (Milakov and Gimelshein 2018).
override LANES: u32 = 1u;
override ROWS: u32 = 64u;

struct Params {
  rows: u32,
  n: u32,
  skip_below: u32, // ids below this one are never taken (special tokens), but have their share of the sum
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> word: array<u32>;
@group(0) @binding(2) var<storage, read_write> log_prob: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

struct Seen {
  most: f32,
  sum: f32, // of exp(x − most)
  best: f32,
  best_at: u32,
}

var<workgroup> tree: array<Seen, LANES * ROWS>;

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
  var seen = Seen(-3.4028234e38, 0.0, -3.4028234e38, 0xffffffffu);
  for (var j = local.x; j < params.n; j += LANES) {
    let value = x[base + j];
    let most = max(seen.most, value);
    seen.sum = seen.sum * exp(seen.most - most) + exp(value - most);
    seen.most = most;
    if (j >= params.skip_below && value > seen.best) {
      seen.best = value;
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
    word[row] = min(seen.best_at, params.n - 1u);
    log_prob[row] = seen.best - seen.most - log(seen.sum);
  }
}
