// Scheduled sampling: some of the true words before each step give way to the model's own.
//
//   mixed[t, r] = own[t − 1, r] where uniform(seed, step, stream, t, r) < probability, else ids[t, r]
//
// ids, own, mixed [steps, rows]; own[t, r] is the model's word for the place after ids[t, r]. The first step, startseq, padding
// (0), and words whose replacement would be endseq stay. The generator is PCG4D, the bits of dropout.wgsl. One invocation owns
// one word. There is no gradient: words are chosen.
struct Params {
  count: u32,
  rows: u32,
  probability: f32,
  seed: u32,
  step: u32,
  stream: u32,
  start: u32,
  end: u32,
}

@group(0) @binding(0) var<storage, read> ids: array<u32>;
@group(0) @binding(1) var<storage, read> own: array<u32>;
@group(0) @binding(2) var<storage, read_write> mixed: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

fn pcg4d(key: vec4u) -> vec4u {
  var v = key * 1664525u + 1013904223u;
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  v = v ^ (v >> vec4u(16u));
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  return v;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count) {
    return;
  }
  let word = ids[i];
  mixed[i] = word;
  if (i < params.rows || word == 0u || word == params.start) {
    return;
  }
  let replacement = own[i - params.rows];
  let u = f32(pcg4d(vec4u(params.seed, params.step, params.stream, i)).x >> 8u) / 16777216.0;
  if (u < params.probability && replacement != params.end) {
    mixed[i] = replacement;
  }
}
