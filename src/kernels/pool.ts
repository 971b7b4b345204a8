/** Launchers of max and average pooling over windows, in either layout. */
import type { Gpu } from '../gpu/gpu.ts';
import type { BufferSlice } from '../gpu/pool.ts';
import { grid } from './elementwise.ts';

export interface PoolGeometry {
  images: number;
  channels: number;
  height: number;
  width: number;
  outHeight: number;
  outWidth: number;
  kernel: readonly [number, number];
  stride: readonly [number, number];
  pad: readonly [number, number];
  channelsLast: boolean;
  countPadding: boolean;
}

function params(g: PoolGeometry, count: number): Record<string, number> {
  const strides = (height: number, width: number): number[] =>
    g.channelsLast ? [height * width * g.channels, width * g.channels, g.channels, 1] : [g.channels * height * width, width, 1, height * width];
  const [x_image, x_row, x_pixel, x_channel] = strides(g.height, g.width);
  const [y_image, y_row, y_pixel, y_channel] = strides(g.outHeight, g.outWidth);
  return {
    count,
    channels: g.channels,
    height: g.height,
    width: g.width,
    out_height: g.outHeight,
    out_width: g.outWidth,
    kernel_height: g.kernel[0],
    kernel_width: g.kernel[1],
    stride_y: g.stride[0],
    stride_x: g.stride[1],
    pad_y: g.pad[0],
    pad_x: g.pad[1],
    count_padding: g.countPadding ? 1 : 0,
    ...{ x_image, x_row, x_pixel, x_channel, y_image, y_row, y_pixel, y_channel },
  };
}

export function pool2d(gpu: Gpu, g: PoolGeometry, isMax: boolean, x: BufferSlice, y: BufferSlice, label: string): void {
  const count = g.images * g.channels * g.outHeight * g.outWidth;
  gpu.dispatch(gpu.kernel({ file: 'pool2d', constants: { IS_MAX: isMax ? 1 : 0 } }), [x, y], params(g, count), grid(count), label);
}

export function pool2dGrad(gpu: Gpu, g: PoolGeometry, isMax: boolean, x: BufferSlice, dy: BufferSlice, dx: BufferSlice, label: string): void {
  const count = g.images * g.channels * g.height * g.width;
  gpu.dispatch(gpu.kernel({ file: 'pool2d_grad', constants: { IS_MAX: isMax ? 1 : 0 } }), [x, dy, dx], params(g, count), grid(count), label);
}
