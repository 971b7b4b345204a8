/** What a program that uses Glimpse as a library imports. */
export { checkOp } from './autograd/check.ts';
export { gradcheck } from './autograd/gradcheck.ts';
export type { Op } from './autograd/op.ts';
export * as ops from './autograd/ops/index.ts';
export { OPS } from './autograd/ops/index.ts';
export { apply, backward, gradOf, noGrad, variable, zeroGrad } from './autograd/tape.ts';
export { GlimpseError, GpuError } from './errors.ts';
export { type Gpu, openGpu } from './gpu/device.ts';
export { formatProfile, Profiler } from './gpu/profiler.ts';
export { Captioner, DEFAULT_WIDTHS, PRESETS } from './model/captioner/captioner.ts';
export { ImageEncoder } from './model/encoder/encoder.ts';
export { OnnxModel } from './model/onnx/run.ts';
export { Optimizer } from './nn/optimizer.ts';
export { Parameters } from './nn/parameters.ts';
export { full, memory, scope, Tensor, tensor, zeros } from './tensor/tensor.ts';
