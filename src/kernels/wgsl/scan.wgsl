// Running sums along the middle axis, block by block: y[o, p, i] = Σ x[o, q, i] over the q of p's block up to p.
//
// x, y [outer, n, inner]; totals [outer, blocks, inner]: the sum of each block, of at most `chunk` numbers. One invocation owns a block
// if inner > 1, so that neighbors read side by side. A workgroup owns it if a line lies in one piece; LANES says which. With EXCLUSIVE,
// p itself does not count. With REVERSE, p counts from the end. The launcher sums up the totals in the same way, and
// scan_add.wgsl adds to each block what stands before it.
const SIZE: u32 = 64u;

override LANES: u32 = 1u; // @launch
override EXCLUSIVE: bool = false;
override REVERSE: bool = false;

struct Params {
  items: u32, // outer blocks inner
  n: u32,
  inner: u32,
  blocks: u32,
  chunk: u32, // a multiple of LANES
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> totals: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> sums: array<f32, SIZE>;

fn place(line: u32, p: u32) -> u32 {
  let along = select(p, params.n - 1u - p, REVERSE);
  return (line / params.inner * params.n + along) * params.inner + line % params.inner;
}

@compute @workgroup_size(SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  let share = group.x + group.y * groups.x;
  let item = select(share * SIZE + local, share, LANES > 1u);
  let lane = select(0u, local, LANES > 1u);
  let block = item / params.inner % params.blocks;
  let line = item / params.inner / params.blocks * params.inner + item % params.inner;
  let own = params.chunk / LANES;
  let begin = block * params.chunk + lane * own;
  let end = select(begin, min(begin + own, params.n), item < params.items);
  var sum = 0.0;
  if (LANES > 1u) {
    var part = 0.0;
    for (var p = begin; p < end; p++) {
      part += x[place(line, p)];
    }
    sums[lane] = part;
    workgroupBarrier();
    for (var before = 0u; before < lane; before++) {
      sum += sums[before];
    }
  }
  for (var p = begin; p < end; p++) {
    let at = place(line, p);
    let next = sum + x[at];
    y[at] = select(next, sum, EXCLUSIVE);
    sum = next;
  }
  if (lane + 1u == LANES && item < params.items) {
    totals[item] = sum;
  }
}
