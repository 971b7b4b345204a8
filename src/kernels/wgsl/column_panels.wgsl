// Columns of a matrix in panels of WIDTH vec4: what a tile of a product reads row after row lies together.
//
//   y[p, r, i] = x[r, p WIDTH + i]        x [rows, columns] and y [panels, rows, WIDTH] in vec4; beyond the last column zero
//
// A processor fetches ahead of a reader who goes on in memory, not of one whose next row lies on another page. One invocation
// owns one vec4 of y; y of the grid counts panels, x the vec4 of a panel. Weights are laid out so once, not at every use.
const WIDTH: u32 = 8u; // @tune 4 8

struct Params {
  rows: u32,
  columns: u32, // in vec4
  start: u32, // first vec4 of x
}

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;
@group(1) @binding(0) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
  let r = id.x / WIDTH;
  if (r >= params.rows) {
    return;
  }
  let column = id.y * WIDTH + id.x % WIDTH;
  var value = vec4f();
  if (column < params.columns) {
    value = x[params.start + r * params.columns + column];
  }
  y[id.y * params.rows * WIDTH + id.x] = value;
}
