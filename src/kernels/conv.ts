/**
 * Launchers of convolution and its gradients, channels last: x [N, H, W, C], w [KH, KW, C/G, O], y [N, OH, OW, O].
 * Version 2 unfolds pictures into rows and leaves the work to the matrix product, a few pictures at a time so that the
 * rows stay below a fixed size; versions from 3 on multiply without storing the rows, and fold a stride over few channels away.
 */
import type { Gpu } from '../gpu/device.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { inStorage, type TexelLayout, texelParams } from '../gpu/texels.ts';
import { axpby, grid, stridedCopy } from './elementwise.ts';
import { matmul, tileOrder } from './matmul.ts';
import { columnPanels, panelsServe, type WeightsRead } from './panels.ts';
import { sizeRange } from './tuning.ts';
import { chooseVersion, FAMILIES, hasFixedSubgroup } from './versions.ts';

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

/** Unfolds (im2col) or folds back (col2im) the images from `first` on: `count` elements, four at a time where that divides. */
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

/** A 1×1 convolution of stride 1 is a product of the pixels as they lie: nothing to unfold. */
function isPointwise(g: ConvGeometry): boolean {
  return g.kernel[0] * g.kernel[1] === 1 && g.stride[0] * g.stride[1] === 1 && g.pad[0] + g.pad[1] === 0 && g.outHeight === g.height && g.outWidth === g.width;
}

const roundUp4 = (count: number) => 4 * Math.ceil(count / 4);
const rowsPerImage = (g: ConvGeometry) => g.outHeight * g.outWidth;
const columnsOf = (g: ConvGeometry) => g.kernel[0] * g.kernel[1] * g.channels;

/** Calls `work` for runs of images whose columns fit, with a buffer for them. */
function forImageRuns(gpu: Gpu, g: ConvGeometry, label: string, work: (columns: BufferSlice, first: number, images: number) => void): void {
  const perImage = rowsPerImage(g) * columnsOf(g) * 4;
  const run = Math.max(1, Math.min(g.images, Math.floor(MAX_COLUMN_BYTES / Math.max(1, perImage))));
  const columns = { buffer: gpu.pool.acquire(run * perImage, `${label} (columns)`), offset: 0, bytes: run * perImage };
  for (let first = 0; first < g.images; first += run) work(columns, first, Math.min(run, g.images - first));
  gpu.pool.release(columns.buffer);
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

/** A plain product of pixels or not, and the output pixels of the whole batch. */
function convClass(g: ConvGeometry): string {
  return `${isPointwise(g) ? '1×1' : 'k×k'} ${sizeRange(g.images * rowsPerImage(g), 64, 512)}`;
}

/** Whether blocks of stride × stride pixels can stand for pixels: whole blocks, and channels that go by fours only together. */
function foldsStride({ height, width, channels, stride: [sy, sx], dilation }: ConvGeometry): boolean {
  return sy > 1 && sy === sx && height % sy === 0 && width % sx === 0 && (sy * sx * channels) % 4 === 0 && dilation[0] * dilation[1] === 1;
}

/** The same convolution with pixels for blocks of stride × stride pixels; padding grows to whole blocks, by `before` zeros. */
function folded(g: ConvGeometry): { geometry: ConvGeometry; before: number[] } {
  const s = g.stride[0];
  const pad = g.pad.map((each) => Math.ceil(each / s)) as [number, number];
  const before = g.pad.map((each, i) => pad[i] * s - each);
  const kernel = g.kernel.map((each, i) => Math.ceil((each + before[i]) / s)) as [number, number];
  return { geometry: { ...g, height: g.height / s, width: g.width / s, channels: s * s * g.channels, kernel, stride: [1, 1], pad }, before };
}

/** What versions with channels by fours work on. */
function byFours(g: ConvGeometry): ConvGeometry {
  if (g.channels % 4 === 0) return g;
  return foldsStride(g) ? folded(g).geometry : { ...g, channels: roundUp4(g.channels) };
}

/** How pictures and weights are read as texels: pixels by channels, and channels of each tap by output channels. */
function texelLayouts(gpu: Gpu, g: ConvGeometry): (TexelLayout | null)[] {
  return [gpu.texelLayout(g.images * g.height * g.width, g.channels), gpu.texelLayout(columnsOf(g), g.outChannels)];
}

/** Versions in conv2d_subgroup_texels.wgsl: blocks of output channels side by side in a tile, and how weights are read. */
const TEXEL_VERSIONS: Record<string, { parts: number; w: WeightsRead }> = {
  v4_subgroup_texels: { parts: 1, w: 'texels' },
  v5_subgroup_texels_x: { parts: 1, w: 'storage' },
  v6_subgroup_texels_wide: { parts: 2, w: 'texels' },
  v7_subgroup_panels: { parts: 2, w: 'panels' },
};

/** Versions that can serve the problem; where no table says otherwise the first is taken. */
function conv2dVersions(gpu: Gpu, { geometry: g, w, residual }: ConvForward): string[] {
  if (g.groups !== 1) return ['v1_direct'];
  const versions = residual ? ['v1_direct'] : ['v2_im2col', 'v1_direct'];
  if (!hasFixedSubgroup(gpu) || g.outChannels % 4 !== 0) return versions;
  const f = byFours(g);
  if (!texelLayouts(gpu, f).every((layout) => layout !== null)) return ['v3_subgroup', ...versions];
  const panels = panelsServe(gpu, 'conv2d', w, columnsOf(f), f.outChannels);
  const texels = Object.keys(TEXEL_VERSIONS).filter((name) => panels || TEXEL_VERSIONS[name].w !== 'panels');
  return ['v3_subgroup', ...texels, ...versions];
}

/** Copies [outer, channels, inner] to where zeros make the channels go by fours. */
function padChannels(gpu: Gpu, from: BufferSlice, to: BufferSlice, [outer, channels, inner]: readonly [number, number, number], label: string): void {
  gpu.clear(to);
  const target = { slice: to, strides: [roundUp4(channels) * inner, inner, 1] };
  stridedCopy(gpu, { slice: from, strides: [channels * inner, inner, 1] }, target, [outer, channels, inner], label);
}

/** Blocks of stride × stride pixels become pixels of as many times the channels. */
function foldPictures(gpu: Gpu, x: BufferSlice, to: BufferSlice, { images, height, width, channels, stride: [s] }: ConvGeometry, label: string): void {
  const rows = (images * height) / s;
  gpu.dispatch(gpu.kernel({ file: 'space_to_depth' }), [x, to], { rows, width: width / s, run: s * channels, size: s }, grid(rows, 1), label);
}

/** Tap k of the kernel goes to row (k + before) mod S of block (k + before) / S. */
function foldWeights(gpu: Gpu, w: BufferSlice, to: BufferSlice, g: ConvGeometry): void {
  const s = g.stride[0];
  const { geometry, before } = folded(g);
  const tap = 4 * g.channels * g.outChannels;
  gpu.clear(to);
  for (let ky = 0; ky < g.kernel[0]; ky++)
    for (let kx = 0; kx < g.kernel[1]; ) {
      const [row, column] = [ky + before[0], kx + before[1]];
      const together = Math.min(s - (column % s), g.kernel[1] - kx); // taps of one row of a block lie together on both sides
      const block = Math.floor(row / s) * geometry.kernel[1] + Math.floor(column / s);
      gpu.copy(w, to, together * tap, (ky * g.kernel[1] + kx) * tap, ((block * s + (row % s)) * s + (column % s)) * tap);
      kx += together;
    }
}

/**
 * Pictures whose channels do not go by fours: a stride is folded away, or channels of zeros are added. Folding makes a
 * convolution of stride S one of stride 1 on blocks of S × S pixels: the 49 taps of 3 channels of ResNet-50's first layer,
 * each with an index of its own, become 16 of 12, a seventh less time on lavapipe than zeros. Weights are prepared once.
 */
function withChannelsByFours(gpu: Gpu, p: ConvForward, version: string): void {
  const { geometry: g, label } = p;
  const folds = foldsStride(g);
  const geometry = byFours(g);
  const bytes = 4 * geometry.images * geometry.height * geometry.width * geometry.channels;
  const x = { buffer: gpu.pool.acquire(bytes, `${label} (channels by fours)`), offset: 0, bytes };
  if (folds) foldPictures(gpu, p.x, x, g, label);
  else padChannels(gpu, p.x, x, [g.images * g.height * g.width, g.channels, 1], label);
  const name = `weights by fours, ${g.kernel.join('×')} ${g.channels}→${g.outChannels}, stride ${g.stride}, pad ${g.pad}`;
  const w = gpu.prepare(p.w, name, 4 * columnsOf(geometry) * g.outChannels, (to) => {
    if (folds) foldWeights(gpu, p.w, to, g);
    else padChannels(gpu, p.w, to, [g.kernel[0] * g.kernel[1], g.channels, g.outChannels], label);
  });
  launchConv(gpu, { ...p, geometry, x, w }, version);
  gpu.pool.release(x.buffer);
}

export function conv2d(gpu: Gpu, p: ConvForward): void {
  launchConv(gpu, p, chooseVersion(gpu, 'conv2d', convClass(p.geometry), conv2dVersions(gpu, p)));
}

function launchConv(gpu: Gpu, p: ConvForward, version: string): void {
  const { geometry: g, x, w, y, label } = p;
  const count = g.images * rowsPerImage(g) * g.outChannels;
  const epilogue = { has_bias: p.bias ? 1 : 0, has_residual: p.residual ? 1 : 0, relu: p.relu ? 1 : 0 };
  if (version === 'v2_im2col') {
    const product = { b: w, c: y, n: g.outChannels, k: columnsOf(g), bias: p.bias, relu: p.relu, label };
    if (isPointwise(g)) {
      matmul(gpu, { ...product, a: x, m: g.images * rowsPerImage(g) });
      return;
    }
    forImageRuns(gpu, g, label, (columns, first, images) => {
      const m = images * rowsPerImage(g);
      const total = m * columnsOf(g);
      launchColumns(gpu, 'im2col', x, columns, g, total, first, label);
      matmul(gpu, { ...product, a: columns, m, cStart: first * rowsPerImage(g) * g.outChannels });
    });
    return;
  }
  const slices = [x, w, p.bias ?? x, p.residual ?? x, y];
  const params: Record<string, number> = { ...convParams(g, count), ...epilogue };
  if (version.includes('subgroup') && g.channels % 4 !== 0) {
    withChannelsByFours(gpu, p, version);
    return;
  }
  if (version.includes('subgroup')) {
    const tile = 4 * gpu.subgroupWidth;
    const texels = TEXEL_VERSIONS[version];
    const columnTiles = Math.ceil(g.outChannels / (tile * (texels?.parts ?? 1)));
    const rowTiles = Math.ceil((g.images * rowsPerImage(g)) / tile);
    const tiles = columnTiles * rowTiles;
    const tiled = { ...params, column_tiles: columnTiles, row_tiles: rowTiles, ...tileOrder(rowTiles, columnTiles), tiles };
    const tune = { WIDTH: gpu.subgroupWidth };
    if (!texels) gpu.dispatch(gpu.kernel({ file: 'conv2d_subgroup', tune }), slices, tiled, grid(tiles, 1), label);
    else {
      const [xLayout, wLayout] = texelLayouts(gpu, g) as [TexelLayout, TexelLayout];
      const rows = columnsOf(g);
      const fromStorage = texels.w === 'storage';
      const xTexels = { ...x, layout: xLayout };
      const wTexels = texels.w === 'panels' ? columnPanels(gpu, w, 0, rows, g.outChannels) : { ...w, layout: wLayout };
      const found = {
        ...texelParams('x', xLayout),
        ...texelParams('w', fromStorage ? inStorage(wLayout) : wTexels.layout),
        w_panel: texels.w === 'panels' ? rows : 0,
      };
      const kernel = gpu.kernel({ file: 'conv2d_subgroup_texels', tune: { ...tune, PARTS: texels.parts }, constants: { W_TEXELS: fromStorage ? 0 : 1 } });
      gpu.dispatch(kernel, [xTexels, fromStorage ? xTexels : wTexels, ...slices.slice(1)], { ...tiled, ...found }, grid(tiles, 1), label);
    }
    return;
  }
  gpu.dispatch(gpu.kernel({ file: 'conv2d_direct' }), slices, params, grid(count), label);
}

/** The gradients go through the matrix product unless groups forbid it, or the plain version is forced. */
function gradVersion(gpu: Gpu, g: ConvGeometry): string {
  const version = chooseVersion(gpu, 'conv2d', 'gradients', g.groups === 1 ? ['v2_im2col', ...FAMILIES.conv2d] : ['v1_direct']);
  return version.includes('subgroup') ? 'v2_im2col' : version; // the gradients have no such versions of their own
}

/** dx = the transposed convolution of dy. */
export function conv2dGradInput(gpu: Gpu, g: ConvGeometry, dy: BufferSlice, w: BufferSlice, dx: BufferSlice, label: string): void {
  if (gradVersion(gpu, g) === 'v1_direct') {
    const count = g.images * g.height * g.width * g.channels;
    gpu.dispatch(gpu.kernel({ file: 'conv2d_grad_input' }), [dy, w, dx], convParams(g, count), grid(count), label);
    return;
  }
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

/** dw = Σ over pixels of the unfolded input times dy. */
export function conv2dGradWeight(gpu: Gpu, g: ConvGeometry, x: BufferSlice, dy: BufferSlice, dw: BufferSlice, label: string): void {
  const weights = (columnsOf(g) / g.groups) * g.outChannels;
  if (gradVersion(gpu, g) === 'v1_direct') {
    gpu.dispatch(gpu.kernel({ file: 'conv2d_grad_weight' }), [x, dy, dw], convParams(g, weights), grid(weights), label);
    return;
  }
  const product = { b: dy, transA: true, m: columnsOf(g), n: g.outChannels, label };
  if (isPointwise(g)) {
    matmul(gpu, { ...product, a: x, c: dw, k: g.images * rowsPerImage(g) });
    return;
  }
  const part = { buffer: gpu.pool.acquire(weights * 4, `${label} (part)`), offset: 0, bytes: weights * 4 };
  forImageRuns(gpu, g, label, (columns, first, images) => {
    const k = images * rowsPerImage(g);
    launchColumns(gpu, 'im2col', x, columns, g, k * columnsOf(g), first, label);
    matmul(gpu, { ...product, a: columns, c: first === 0 ? dw : part, k, bStart: first * rowsPerImage(g) * g.outChannels });
    if (first > 0) axpby(gpu, 1, part, 1, dw, weights, label);
  });
  gpu.pool.release(part.buffer);
}
