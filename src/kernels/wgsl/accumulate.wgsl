// Adds up gradients of micro-batches:  sum ← sum + x, where numbers below the least normal one count as zero.
//
// sum, x [count] as vec4, padded storages. One invocation owns one vec4. Adapters differ in what they do with subnormal
// numbers. Processes that train together add on the host, and the sums must have the same bits there. So they are zero here.
// With bits16 != 0, x and the last sum are rounded to bfloat16 (to nearest, ties to even), as gradients are that travel so.
struct Params {
  count4: u32,
  bits16: u32,
  first: u32, // the sum is x alone
  last: u32, // nothing more will be added
}

@group(0) @binding(0) var<storage, read_write> sum: array<vec4f>;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

fn normal(value: vec4f) -> vec4f {
  let bits = bitcast<vec4u>(value);
  return bitcast<vec4f>(select(bits, vec4u(0u), (bits & vec4u(0x7f800000u)) == vec4u(0u)));
}

fn rounded(value: vec4f) -> vec4f {
  let bits = bitcast<vec4u>(value);
  let up = (bits + 0x7fffu + ((bits >> vec4u(16u)) & vec4u(1u))) & vec4u(0xffff0000u);
  let is_number = (bits & vec4u(0x7f800000u)) != vec4u(0x7f800000u); // infinities and NaN stay
  return bitcast<vec4f>(select(bits, up, is_number));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.count4) {
    return;
  }
  var part = normal(x[i]);
  if (params.bits16 != 0u) {
    part = rounded(part);
  }
  if (params.first == 0u) {
    part = normal(normal(sum[i]) + part);
  }
  if (params.bits16 != 0u && params.last != 0u) {
    part = rounded(part);
  }
  sum[i] = part;
}
