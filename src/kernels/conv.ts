/**
 * Launchers of convolution and its gradients, channels last: x [N, H, W, C], w [KH, KW, C/G, O], y [N, OH, OW, O].
 * `im2col` unfolds pictures into rows and leaves the work to the matrix product. It takes a few pictures at a time, so that
 * the rows stay below a fixed size. The subgroup versions multiply without storing the rows. Where the channels are not a
 * multiple of 4, they fold a stride away or add channels of zeros.
 */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { type TexelLayout, type TexelSlice, texelParams } from '../gpu/texels.ts';
import { grid } from './elementwise.ts';
import { always, Family, sizeRange, type Version, withoutFixedSubgroup } from './family.ts';
import { roundUp4, rowsToFours } from './fours.ts';
import { BUSY_WORKGROUPS, matmul, tileOrder, tilesOf } from './matmul.ts';
import { type WeightsRead, withoutPanels, withPanels } from './panels.ts';
import { withScratch } from './scratch.ts';

export interface ConvGeometry {
  images: number;
  height: number;
  width: number;
  channels: number;
  outHeight: number;
  outWidth: number;
  outChannels: number;
  kernel: readonly [number, number];
  stride: readonly [number, number];
  pad: readonly [number, number];
  dilation: readonly [number, number];
  groups: number;
}

const MAX_COLUMN_BYTES = 48 << 20;

function convParams(g: ConvGeometry, count: number): Record<string, number> {
  return {
    count,
    height: g.height,
    width: g.width,
    channels: g.channels,
    out_height: g.outHeight,
    out_width: g.outWidth,
    out_channels: g.outChannels,
    kernel_height: g.kernel[0],
    kernel_width: g.kernel[1],
    stride_y: g.stride[0],
    stride_x: g.stride[1],
    pad_y: g.pad[0],
    pad_x: g.pad[1],
    dilation_y: g.dilation[0],
    dilation_x: g.dilation[1],
    groups: g.groups,
    images: g.images,
    has_bias: 0,
    has_residual: 0,
    relu: 0,
  };
}

/** Unfolds (im2col) or folds back (col2im) images from `firstImage` on: `count` elements, four at a time if C is a multiple of 4. */
function launchColumns(
  gpu: Gpu,
  file: 'im2col' | 'col2im',
  from: BufferSlice,
  to: BufferSlice,
  g: ConvGeometry,
  count: number,
  firstImage: number,
  label: string,
): void {
  const per = g.channels % 4 === 0 ? 4 : 1;
  const { has_bias: _b, has_residual: _r, relu: _l, images: _i, groups: _g, out_channels: _o, ...geometry } = convParams(g, count / per);
  const params = { ...geometry, channels: g.channels / per, first_image: firstImage };
  gpu.dispatch(gpu.kernel({ file: per === 4 ? `${file}_vec4` : file }), [from, to], params, grid(count / per), label);
}

/** A 1×1 convolution of stride 1 is a matrix product of the stored pixels; there is nothing to unfold. */
function isPointwise(g: ConvGeometry): boolean {
  return g.kernel[0] * g.kernel[1] === 1 && g.stride[0] * g.stride[1] === 1 && g.pad[0] + g.pad[1] === 0 && g.outHeight === g.height && g.outWidth === g.width;
}

const rowsPerImage = (g: ConvGeometry) => g.outHeight * g.outWidth;
const columnsOf = (g: ConvGeometry) => g.kernel[0] * g.kernel[1] * g.channels;

/** Calls `work` for runs of images whose columns fit in `MAX_COLUMN_BYTES`, with a buffer for the columns. */
function forImageRuns(gpu: Gpu, g: ConvGeometry, label: string, work: (columns: BufferSlice, first: number, images: number) => void): void {
  const perImage = rowsPerImage(g) * columnsOf(g) * 4;
  const run = Math.max(1, Math.min(g.images, Math.floor(MAX_COLUMN_BYTES / Math.max(1, perImage))));
  withScratch(gpu, [(run * perImage) / 4], `${label} (columns)`, ([columns]) => {
    for (let first = 0; first < g.images; first += run) work(columns, first, Math.min(run, g.images - first));
  });
}

export interface ConvForward {
  geometry: ConvGeometry;
  x: BufferSlice;
  w: BufferSlice;
  bias?: BufferSlice | null;
  residual?: BufferSlice | null;
  relu?: boolean;
  y: BufferSlice;
  label: string;
}

/**
 * The class: whether the convolution is a plain product of pixels, and the number of output pixels of the whole batch. `many` fills
 * tiles of 128 × 128, enough of them to keep a real GPU busy.
 */
function convClass(g: ConvGeometry): string {
  const pixels = g.images * rowsPerImage(g);
  const isMany = g.outChannels > 64 && tilesOf({ m: pixels, n: g.outChannels }, 128) >= BUSY_WORKGROUPS;
  return `${isPointwise(g) ? '1×1' : 'k×k'} ${sizeRange(pixels, 64, 512)}${isMany ? ' many' : ''}`;
}

/** Whether blocks of stride × stride pixels can become pixels: all blocks are whole, and a block's channels are a multiple of 4. */
function foldsStride({ height, width, channels, stride: [sy, sx], dilation }: ConvGeometry): boolean {
  return sy > 1 && sy === sx && height % sy === 0 && width % sx === 0 && (sy * sx * channels) % 4 === 0 && dilation[0] * dilation[1] === 1;
}

/** The same convolution on blocks of stride × stride pixels. Padding grows to whole blocks, by `before` zeros. */
function folded(g: ConvGeometry): { geometry: ConvGeometry; before: number[] } {
  const s = g.stride[0];
  const pad = g.pad.map((each) => Math.ceil(each / s)) as [number, number];
  const before = g.pad.map((each, i) => pad[i] * s - each);
  const kernel = g.kernel.map((each, i) => Math.ceil((each + before[i]) / s)) as [number, number];
  return { geometry: { ...g, height: g.height / s, width: g.width / s, channels: s * s * g.channels, kernel, stride: [1, 1], pad }, before };
}

/** The geometry for versions that read four channels at a time. */
function byFours(g: ConvGeometry): ConvGeometry {
  if (g.channels % 4 === 0) return g;
  return foldsStride(g) ? folded(g).geometry : { ...g, channels: roundUp4(g.channels) };
}

/** How operands are read as texels. Rows of pictures are pixels; rows of weights are input channels of a tap. */
function texelLayouts(gpu: Gpu, g: ConvGeometry): (TexelLayout | null)[] {
  return [gpu.texelLayout(g.images * g.height * g.width, g.channels), gpu.texelLayout(columnsOf(g), g.outChannels)];
}

/** A version of the convolution. */
interface ConvVersion extends Version<ConvForward> {
  launch(gpu: Gpu, p: ConvForward, version: ConvVersion): void;
  /** For versions of `conv2d_workgroup_vec4`, which need no subgroups: a workgroup owns 64 · parts pixels and channels. */
  parts?: number;
  /** For versions that read texels: blocks of output channels side by side in a tile, and how weights are read. */
  texels?: { parts: number; w: WeightsRead };
}

/** Why the versions that read four channels at a time cannot serve the problem; null if they can. */
function notByFours({ geometry: g }: ConvForward): string | null {
  if (g.groups !== 1) return 'its channels are in groups';
  return g.outChannels % 4 === 0 ? null : `${g.outChannels} output channels are not a multiple of 4`;
}

/** Why the subgroup versions cannot serve the problem; null if they can. */
const withoutSubgroup = (gpu: Gpu, p: ConvForward): string | null => notByFours(p) ?? withoutFixedSubgroup(gpu);

function withoutTexels(gpu: Gpu, p: ConvForward): string | null {
  const reason = withoutSubgroup(gpu, p);
  if (reason !== null) return reason;
  return texelLayouts(gpu, byFours(p.geometry)).every((layout) => layout !== null) ? null : 'its operands cannot be read as texels here';
}

function withoutWeights(gpu: Gpu, { geometry, w }: ConvForward, name: string): string | null {
  const g = byFours(geometry);
  return withoutPanels(gpu, 'conv2d', conv2dFamily.isForced(name), w, columnsOf(g), g.outChannels);
}

function texelVersion(name: string, parts: number, w: WeightsRead, idea: string): ConvVersion {
  return {
    ...{ name, idea, shader: 'conv2d_subgroup_texels', uses: ['space_to_depth', ...(w === 'panels' ? ['column_panels'] : [])] },
    ...{ texels: { parts, w }, launch: launchTiles },
    unable: (gpu, p) => withoutTexels(gpu, p) ?? (w === 'panels' ? withoutWeights(gpu, p, name) : null),
  };
}

function workgroupVersion(name: string, parts: number, idea: string): ConvVersion {
  return { ...{ name, idea, parts, shader: 'conv2d_workgroup_vec4', uses: ['space_to_depth'], launch: launchTiles }, unable: (_gpu, p) => notByFours(p) };
}

/** Whether every channel is a group of its own, with one filter or several. */
const isDepthwise = ({ channels, groups }: ConvGeometry) => groups > 1 && channels === groups;

/** In the best order to read them. `im2col` runs the version of the matrix product that is chosen for it. */
const VERSIONS: readonly ConvVersion[] = [
  {
    ...{ name: 'direct', shader: 'conv2d_direct', launch: launchDirect, unable: always },
    idea: 'one invocation owns one element of the output; groups and every dilation',
  },
  {
    ...{ name: 'im2col', shader: 'im2col', uses: ['im2col_vec4'], composed: true, launch: launchIm2col },
    idea: 'pictures are unfolded into rows, and a version of `matmul` multiplies them',
    unable: (_gpu, { geometry, residual }) =>
      geometry.groups !== 1 ? 'its channels are in groups' : residual ? 'the product has no place for a residual' : null,
  },
  workgroupVersion('workgroup_vec4', 1, 'as `im2col`, but rows are gathered while they are multiplied; the tile is that of `matmul` `workgroup_vec4`'),
  workgroupVersion('workgroup_wide', 2, 'as `workgroup_vec4`, with the tile of `matmul` `workgroup_wide`'),
  {
    ...{ name: 'subgroup', shader: 'conv2d_subgroup', uses: ['space_to_depth'], launch: launchTiles, unable: withoutSubgroup },
    idea: 'as `im2col`, but rows are gathered while they are multiplied and never stored; the tile is that of `matmul` `subgroup`',
  },
  texelVersion('subgroup_texels', 1, 'texels', 'as `subgroup`; pictures and weights are read as texels'),
  texelVersion('subgroup_texels_wide', 2, 'texels', 'as `subgroup_texels`, with two blocks of output channels'),
  texelVersion('subgroup_panels', 2, 'panels', 'as `subgroup_texels_wide`; weights lie in panels of channels'),
  {
    ...{ name: 'depthwise', shader: 'conv2d_depthwise', launch: launchDepthwise },
    idea: 'as `direct`, for a filter or several per channel; one invocation owns four channels of four pixels',
    unable: (_gpu, { geometry: g }) =>
      !isDepthwise(g) ? 'its channels are not all groups of their own' : g.channels % 4 === 0 ? null : `${g.channels} channels are not a multiple of 4`,
  },
];

export const conv2dFamily: Family<ConvForward, ConvVersion> = new Family('conv2d', VERSIONS, ({ geometry }) =>
  isDepthwise(geometry) ? 'depthwise' : convClass(geometry),
);

export function conv2d(gpu: Gpu, p: ConvForward): void {
  const version = conv2dFamily.choose(gpu, p);
  gpu.noteRead(p.w, conv2dFamily.name);
  version.launch(gpu, p, version);
}

/** Turns blocks of stride × stride pixels into pixels with stride² times the channels. */
function foldPictures(gpu: Gpu, x: BufferSlice, to: BufferSlice, { images, height, width, channels, stride: [s] }: ConvGeometry, label: string): void {
  const rows = (images * height) / s;
  gpu.dispatch(gpu.kernel({ file: 'space_to_depth' }), [x, to], { rows, width: width / s, run: s * channels, size: s }, grid(rows, 1), label);
}

/** Along each axis, tap k of the kernel goes to row (k + before) mod S of block ⌊(k + before) / S⌋. */
function foldWeights(gpu: Gpu, w: BufferSlice, to: BufferSlice, g: ConvGeometry): void {
  const s = g.stride[0];
  const { geometry, before } = folded(g);
  const tap = 4 * g.channels * g.outChannels;
  gpu.clear(to);
  for (let ky = 0; ky < g.kernel[0]; ky++)
    for (let kx = 0; kx < g.kernel[1]; ) {
      const [row, column] = [ky + before[0], kx + before[1]];
      const together = Math.min(s - (column % s), g.kernel[1] - kx); // taps of one row of a block are contiguous in both buffers
      const block = Math.floor(row / s) * geometry.kernel[1] + Math.floor(column / s);
      gpu.copy(w, to, together * tap, (ky * g.kernel[1] + kx) * tap, ((block * s + (row % s)) * s + (column % s)) * tap);
      kx += together;
    }
}

/**
 * Serves pictures whose number of channels is not a multiple of 4: it folds the stride away, or adds channels of zeros.
 * Folding turns a convolution of stride S into one of stride 1 on blocks of S × S pixels. The first layer of ResNet-50 has 49
 * taps of 3 channels; they become 16 taps of 12 channels. Weights are prepared once.
 */
function withChannelsByFours(gpu: Gpu, p: ConvForward, version: ConvVersion): void {
  const { geometry: g, label } = p;
  const folds = foldsStride(g);
  const geometry = byFours(g);
  const name = `weights by fours, ${g.kernel.join('×')} ${g.channels}→${g.outChannels}, stride ${g.stride}, pad ${g.pad}`;
  const fill = (to: BufferSlice) => {
    if (folds) foldWeights(gpu, p.w, to, g);
    else {
      const from = { rows: g.channels, columns: g.outChannels, start: 0, stride: g.channels * g.outChannels };
      rowsToFours(gpu, p.w, to, { matrices: g.kernel[0] * g.kernel[1], rows: geometry.channels, columns: g.outChannels, from }, label);
    }
  };
  withScratch(gpu, [geometry.images * geometry.height * geometry.width * geometry.channels], `${label} (channels by fours)`, ([x]) => {
    if (folds) foldPictures(gpu, p.x, x, g, label);
    else {
      const from = { rows: g.images * g.height * g.width, columns: g.channels, start: 0, stride: 0 };
      rowsToFours(gpu, p.x, x, { matrices: 1, rows: from.rows, columns: geometry.channels, from }, label);
    }
    gpu.prepare(p.w, name, 4 * columnsOf(geometry) * g.outChannels, fill, (w) => launchTiles(gpu, { ...p, geometry, x, w }, version));
  });
}

const bindings = (p: ConvForward) => [p.x, p.w, p.bias ?? p.x, p.residual ?? p.x, p.y];

function forwardParams(p: ConvForward): Record<string, number> {
  const count = p.geometry.images * rowsPerImage(p.geometry) * p.geometry.outChannels;
  return { ...convParams(p.geometry, count), has_bias: p.bias ? 1 : 0, has_residual: p.residual ? 1 : 0, relu: p.relu ? 1 : 0 };
}

function launchDirect(gpu: Gpu, p: ConvForward): void {
  const params = forwardParams(p);
  conv2dFamily.launch(gpu, {}, bindings(p), params, grid(params.count), p.label);
}

function launchDepthwise(gpu: Gpu, p: ConvForward): void {
  const { geometry: g } = p;
  const count = (g.images * g.outHeight * Math.ceil(g.outWidth / 4) * g.outChannels) / 4;
  const variant = { constants: { ONE_FILTER: g.outChannels === g.channels ? 1 : 0 } };
  conv2dFamily.launch(gpu, variant, bindings(p), { ...forwardParams(p), count }, grid(count), p.label);
}

function launchIm2col(gpu: Gpu, { geometry: g, x, w, y, bias, relu, label }: ConvForward): void {
  const product = { b: w, c: y, n: g.outChannels, k: columnsOf(g), bias, relu, label };
  if (isPointwise(g)) {
    matmul(gpu, { ...product, a: x, m: g.images * rowsPerImage(g) });
    return;
  }
  forImageRuns(gpu, g, label, (columns, first, images) => {
    const m = images * rowsPerImage(g);
    launchColumns(gpu, 'im2col', x, columns, g, m * columnsOf(g), first, label);
    matmul(gpu, { ...product, a: columns, m, cStart: first * rowsPerImage(g) * g.outChannels });
  });
}

/** Each subgroup makes a tile: 4 subgroup widths of pixels by as many output channels, or by twice as many. Or each workgroup makes one. */
function launchTiles(gpu: Gpu, p: ConvForward, version: ConvVersion): void {
  const { geometry: g, label } = p;
  if (g.channels % 4 !== 0) {
    withChannelsByFours(gpu, p, version);
    return;
  }
  const { texels, parts } = version;
  const tile = parts ? 64 * parts : 4 * gpu.subgroupWidth;
  const columnTiles = Math.ceil(g.outChannels / (tile * (texels?.parts ?? 1)));
  const rowTiles = Math.ceil((g.images * rowsPerImage(g)) / tile);
  const tiles = columnTiles * rowTiles;
  const params = { ...forwardParams(p), column_tiles: columnTiles, row_tiles: rowTiles, ...tileOrder(rowTiles, columnTiles), tiles };
  if (!texels) {
    const tune: Record<string, number> = parts ? { PARTS: parts } : { WIDTH: gpu.subgroupWidth };
    conv2dFamily.launch(gpu, { tune }, bindings(p), params, grid(tiles, 1), label);
    return;
  }
  const [xLayout, wLayout] = texelLayouts(gpu, g) as [TexelLayout, TexelLayout];
  const rows = columnsOf(g);
  const variant = { tune: { WIDTH: gpu.subgroupWidth, PARTS: texels.parts } };
  const launch = (w: TexelSlice) => {
    const found = { ...texelParams('x', xLayout), ...texelParams('w', w.layout), w_panel: texels.w === 'panels' ? rows : 0 };
    conv2dFamily.launch(gpu, variant, [{ ...p.x, layout: xLayout }, w, p.bias ?? p.x, p.residual ?? p.x, p.y], { ...params, ...found }, grid(tiles, 1), label);
  };
  if (texels.w === 'panels') withPanels(gpu, p.w, 0, rows, g.outChannels, launch);
  else launch({ ...p.w, layout: wLayout });
}

/** A version of a gradient. `operands` are dy and w for dx, x and dy for dw. */
interface ConvGradVersion extends Version<ConvGeometry> {
  launch(gpu: Gpu, g: ConvGeometry, operands: readonly [BufferSlice, BufferSlice], gradient: BufferSlice, label: string): void;
}

const unfolds = (_gpu: Gpu, { groups }: ConvGeometry) => (groups === 1 ? null : 'its channels are in groups');

export const conv2dGradInputFamily: Family<ConvGeometry, ConvGradVersion> = new Family(
  'conv2d_grad_input',
  [
    {
      ...{ name: 'direct', shader: 'conv2d_grad_input', unable: always },
      idea: 'one invocation owns one element of dx and gathers all that it took part in',
      launch(gpu, g, [dy, w], dx, label) {
        const count = g.images * g.height * g.width * g.channels;
        conv2dGradInputFamily.launch(gpu, {}, [dy, w, dx], convParams(g, count), grid(count), label);
      },
    },
    {
      ...{ name: 'col2im', shader: 'col2im', uses: ['col2im_vec4'], composed: true, unable: unfolds },
      idea: 'a version of `matmul` makes the gradient of the unfolded picture, which is folded back',
      launch: inputByProduct,
    },
  ],
  convClass,
);

export const conv2dGradWeightFamily: Family<ConvGeometry, ConvGradVersion> = new Family(
  'conv2d_grad_weight',
  [
    {
      ...{ name: 'direct', shader: 'conv2d_grad_weight', unable: always },
      idea: 'one invocation owns one weight and gathers all that it took part in',
      launch(gpu, g, [x, dy], dw, label) {
        const count = (columnsOf(g) / g.groups) * g.outChannels;
        conv2dGradWeightFamily.launch(gpu, {}, [x, dy, dw], convParams(g, count), grid(count), label);
      },
    },
    {
      ...{ name: 'im2col', shader: 'im2col', uses: ['im2col_vec4'], composed: true, unable: unfolds },
      idea: 'pictures are unfolded into rows, and a version of `matmul` multiplies them with dy',
      launch: weightByProduct,
    },
  ],
  convClass,
);

/** dx = the transposed convolution of dy with w. */
export function conv2dGradInput(gpu: Gpu, g: ConvGeometry, dy: BufferSlice, w: BufferSlice, dx: BufferSlice, label: string): void {
  conv2dGradInputFamily.choose(gpu, g).launch(gpu, g, [dy, w], dx, label);
}

/** dw = Σ over output pixels of (unfolded x)ᵀ dy. */
export function conv2dGradWeight(gpu: Gpu, g: ConvGeometry, x: BufferSlice, dy: BufferSlice, dw: BufferSlice, label: string): void {
  conv2dGradWeightFamily.choose(gpu, g).launch(gpu, g, [x, dy], dw, label);
}

function inputByProduct(gpu: Gpu, g: ConvGeometry, [dy, w]: readonly [BufferSlice, BufferSlice], dx: BufferSlice, label: string): void {
  const product = { a: dy, b: w, transB: true, n: columnsOf(g), k: g.outChannels, label };
  if (isPointwise(g)) {
    matmul(gpu, { ...product, c: dx, m: g.images * rowsPerImage(g) });
    return;
  }
  forImageRuns(gpu, g, label, (columns, first, images) => {
    matmul(gpu, { ...product, c: columns, m: images * rowsPerImage(g), aStart: first * rowsPerImage(g) * g.outChannels });
    const count = images * g.height * g.width * g.channels;
    launchColumns(gpu, 'col2im', columns, dx, g, count, first, label);
  });
}

function weightByProduct(gpu: Gpu, g: ConvGeometry, [x, dy]: readonly [BufferSlice, BufferSlice], dw: BufferSlice, label: string): void {
  const product = { b: dy, transA: true, m: columnsOf(g), n: g.outChannels, label };
  if (isPointwise(g)) {
    matmul(gpu, { ...product, a: x, c: dw, k: g.images * rowsPerImage(g) });
    return;
  }
  forImageRuns(gpu, g, label, (columns, first, images) => {
    const k = images * rowsPerImage(g);
    launchColumns(gpu, 'im2col', x, columns, g, k * columnsOf(g), first, label);
    matmul(gpu, { ...product, a: columns, c: dw, addToC: first > 0, k, bStart: first * rowsPerImage(g) * g.outChannels });
  });
}
