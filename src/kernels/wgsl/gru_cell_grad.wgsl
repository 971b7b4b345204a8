// Gradient of the GRU cell, fused.
//
//   dn = dh' (1 − z) (1 − n²);   dr = dn gh_n r (1 − r);   dz = dh' (h − n) z (1 − z)
//   dgx = [dr | dz | dn];   dgh = [dr | dz | dn r];   dh = dh' z      (the part through gh = h U is the product's)
//
// dh_new, h, dh [B, H]; gates (r, z, n), gh, dgx, dgh [B, 3H]. One invocation owns one unit of one row.
struct Params {
  count: u32, // B H
  hidden: u32,
}

@group(0) @binding(0) var<storage, read> dh_new: array<f32>;
@group(0) @binding(1) var<storage, read> gates: array<f32>;
@group(0) @binding(2) var<storage, read> gh: array<f32>;
@group(0) @binding(3) var<storage, read> h: array<f32>;
@group(0) @binding(4) var<storage, read_write> dgx: array<f32>;
@group(0) @binding(5) var<storage, read_write> dgh: array<f32>;
@group(0) @binding(6) var<storage, read_write> dh: array<f32>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let at = id.x + id.y * groups.x * 64u;
  if (at >= params.count) {
    return;
  }
  let width = params.hidden;
  let g = at / width * 3u * width + at % width;
  let r = gates[g];
  let z = gates[g + width];
  let n = gates[g + 2u * width];
  let d = dh_new[at];
  let dn = d * (1.0 - z) * (1.0 - n * n);
  let dr = dn * gh[g + 2u * width] * r * (1.0 - r);
  let dz = d * (h[at] - n) * z * (1.0 - z);
  dgx[g] = dr;
  dgx[g + width] = dz;
  dgx[g + 2u * width] = dn;
  dgh[g] = dr;
  dgh[g + width] = dz;
  dgh[g + 2u * width] = dn * r;
  dh[at] = d * z;
}
