/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The engine for any host: tensors, ops with gradients, modules, the captioner. It reaches no file, process or Node module;
 * `openGpu` comes from node.ts or web.ts, which are this and what their host can do besides.
 */
export { checkOp } from './autograd/check.ts';
export { type GradcheckResult, gradcheck } from './autograd/gradcheck.ts';
export { type BackwardContext, type ForwardContext, type Op, type OpCase, type Reference, reference } from './autograd/op.ts';
export * as ops from './autograd/ops/index.ts';
export { OPS } from './autograd/ops/index.ts';
export { apply, backward, gradOf, noGrad, variable, zeroGrad } from './autograd/tape.ts';
export { FileError, GlimpseError, GpuError, type GpuErrorKind, ShapeError, UsageError } from './errors.ts';
export type { Replay } from './gpu/capture.ts';
export { currentGpu, Gpu, type GpuHost, makeCurrent } from './gpu/gpu.ts';
export type { Kernel } from './gpu/pipelines.ts';
export type { BufferSlice, MemoryReport } from './gpu/pool.ts';
export { formatProfile, Profiler } from './gpu/profiler.ts';
export { chosenVersion, FAMILIES, forceVersion } from './kernels/families.ts';
export { VersionNotApplicable } from './kernels/family.ts';
export { Captioner, type CaptionerOptions, type CaptionerSizes, DEFAULT_WIDTHS, PRESETS } from './model/captioner/captioner.ts';
export { constant, glorotUniform, type Initializer, uniform, zerosInit } from './nn/initializers.ts';
export { Optimizer, type OptimizerOptions } from './nn/optimizer.ts';
export { type NamedArray, Parameters } from './nn/parameters.ts';
export { type DType, full, memory, readTensors, Scope, scope, Tensor, type TypedArray, tensor, zeros } from './tensor/tensor.ts';
