// Gradient of additive attention, step 2, as additive_attention_grad.wgsl with four numbers per load.
//
//   with t = tanh(keys[b, i, a] + query[b, a]), or with RELU max(0, …), whose slope stands for 1 − t²:
//   dkeys[b, i, a] += de[b, i] v[a] (1 − t²);   dquery[b, a] = Σ_i of the same;   dv_rows[b, a] += Σ_i de[b, i] t
//
// Shapes as there, A a multiple of 4. tanh x = 1 − 2 / (1 + exp 2x) takes one exponential, where the built-in takes two. One
// invocation owns one b and four a, and walks the regions.
override RELU: bool = false;

struct Params {
  count: u32, // B A / 4
  regions: u32,
  keys_width: u32,
  query_start: u32, // of query and dquery
  alpha_start: u32, // of de
}

@group(0) @binding(0) var<storage, read> keys: array<vec4f>;
@group(0) @binding(1) var<storage, read> query: array<vec4f>;
@group(0) @binding(2) var<storage, read> v: array<vec4f>;
@group(0) @binding(3) var<storage, read> de: array<f32>;
@group(0) @binding(4) var<storage, read_write> dkeys: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> dquery: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> dv_rows: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

// By the bits, because compilers take x != x for false.
fn is_nan(x: vec4f) -> vec4<bool> {
  return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) > vec4u(0x7f800000u);
}

// tanh, or with RELU the rectifier; and its slope where it gives t.
fn squash(x: vec4f) -> vec4f {
  if (RELU) {
    return select(max(x, vec4f()), x, is_nan(x));
  }
  return select(1.0 - 2.0 / (1.0 + exp(2.0 * x)), x, is_nan(x)); // one exponential, where the built-in takes two
}

fn slope(t: vec4f) -> vec4f {
  if (RELU) {
    return select(select(vec4f(), vec4f(1.0), t > vec4f()), t, is_nan(t));
  }
  return 1.0 - t * t;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let index = id.x + id.y * groups.x * 64u;
  if (index >= params.count) {
    return;
  }
  let a4_count = params.keys_width / 4u;
  let b = index / a4_count;
  let a = index % a4_count;
  let own_query = query[params.query_start / 4u + index];
  let own_v = v[a];
  var dq = vec4f();
  var dv = vec4f();
  for (var i = 0u; i < params.regions; i++) {
    let at = (b * params.regions + i) * a4_count + a;
    let t = squash(keys[at] + own_query);
    let d = de[params.alpha_start + b * params.regions + i];
    let dk = d * own_v * slope(t);
    dkeys[at] += dk;
    dq += dk;
    dv += d * t;
  }
  dquery[params.query_start / 4u + index] = dq;
  dv_rows[index] += dv;
}
