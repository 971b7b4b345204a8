// Additive attention over several workgroups a picture, step 1: the scores. Step 2: additive_attention_context.wgsl.
//
//   e[b, i] = Σ_a v[a] tanh(keys[b, i, a] + query[b, a])     (with RELU: max(0, …))
//
// keys [B, P, A], query [B, A], v [A]; scores [B, P]. A is a multiple of 4, and query has a start, as in additive_attention.wgsl.
// A workgroup owns REGIONS regions of one picture. LANES lanes share the columns of a region, so neighbors load neighbors, and add
// up through a tree.
const LANES: u32 = 32u;
const REGIONS: u32 = 8u;

override RELU: bool = false;

struct Params {
  regions: u32,
  keys_width: u32,
  query_start: u32,
}

@group(0) @binding(0) var<storage, read> keys: array<vec4f>;
@group(0) @binding(1) var<storage, read> query: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

var<workgroup> tree: array<f32, LANES * REGIONS>;

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// tanh, or with RELU the rectifier.
fn squash(x: vec4f) -> vec4f {
  if (RELU) {
    return select(max(x, vec4f()), x, is_nan(x));
  }
  return select(tanh(clamp(x, vec4f(-10.0), vec4f(10.0))), x, is_nan(x));
}

@compute @workgroup_size(LANES, REGIONS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let b = group.y;
  let i = group.x * REGIONS + local.y;
  let a4_count = params.keys_width / 4u;
  let keys_at = (b * params.regions + min(i, params.regions - 1u)) * a4_count;
  let query_at = params.query_start / 4u + b * a4_count;
  var parts = vec4f();
  for (var a = local.x; a < a4_count; a += LANES) {
    parts += v[a] * squash(keys[keys_at + a] + query[query_at + a]);
  }
  let at = local.y * LANES + local.x;
  tree[at] = (parts.x + parts.y) + (parts.z + parts.w);
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local.x < half) {
      tree[at] += tree[at + half];
    }
  }
  if (local.x == 0u && i < params.regions) {
    scores[b * params.regions + i] = tree[at];
  }
}
