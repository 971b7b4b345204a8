// Which row each index selects, for gather and scatter.
//
//   rows[i] = base(i) + Σₖ ids[at(i) + k] · steps[k]      base and at: through strides, from the place of i in shape[]
//
// ids: any shape; rows [capacity], of which `count` are wanted. An id that is not below its extent makes UNKNOWN of the row. Those from
// count on are PADDING, which sorts last. One invocation owns one row.
const UNKNOWN: u32 = 0xfffffffeu;
const PADDING: u32 = 0xffffffffu;

struct Params {
  count: u32,
  capacity: u32,
  rank: u32,
  components: u32,
  shape: array<vec4<u32>, 2>,
  base_strides: array<vec4<u32>, 2>,
  id_strides: array<vec4<u32>, 2>,
  extents: array<vec4<u32>, 2>,
  steps: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<storage, read> id_of: array<u32>;
@group(0) @binding(1) var<storage, read_write> rows: array<u32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i >= params.capacity) {
    return;
  }
  if (i >= params.count) {
    rows[i] = PADDING;
    return;
  }
  var rest = i;
  var row = 0u;
  var at = 0u;
  for (var step = 1u; step <= params.rank; step++) {
    let axis = params.rank - step;
    let extent = params.shape[axis / 4u][axis % 4u];
    let index = rest % extent;
    rest /= extent;
    row += index * params.base_strides[axis / 4u][axis % 4u];
    at += index * params.id_strides[axis / 4u][axis % 4u];
  }
  var known = true;
  for (var k = 0u; k < params.components; k++) {
    let own = id_of[at + k];
    known = known && own < params.extents[k / 4u][k % 4u];
    row += own * params.steps[k / 4u][k % 4u];
  }
  rows[i] = select(UNKNOWN, row, known);
}
