/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The engine for any host: tensors, ops with gradients, modules, the captioner. It uses no file, process or Node module.
 * node.ts and web.ts add `openGpu` and what else their host can do.
 */
export { type CaseResult, checkOp, checkUserShader } from './autograd/check.ts';
export { type GradcheckResult, gradcheck } from './autograd/gradcheck.ts';
export {
  type BackwardContext,
  type Cost,
  type ForwardContext,
  type Op,
  type OpCase,
  type Reference,
  reference,
  type Thunk,
  type Tolerance,
} from './autograd/op.ts';
export * as ops from './autograd/ops/index.ts';
export { OPS } from './autograd/ops/index.ts';
export { apply, backward, gradOf, noGrad, variable, zeroGrad } from './autograd/tape.ts';
export { type ByteSource, bytesAsSource } from './data/bytes.ts';
export { Vocabulary, type WordRule, wordsOf } from './data/words.ts';
export { FileError, GlimpseError, GpuError, type GpuErrorKind, ShapeError, UsageError } from './errors.ts';
export type { Replay } from './gpu/capture.ts';
export { currentGpu, Gpu, type GpuHost, makeCurrent } from './gpu/gpu.ts';
export type { Kernel } from './gpu/pipelines.ts';
export type { BufferSlice, MemoryReport } from './gpu/pool.ts';
export { formatProfile, type ProfileRow, Profiler, type Span } from './gpu/profiler.ts';
export type { Choice, Dispatch, Grid } from './gpu/recorder.ts';
export type { ShaderVariant } from './gpu/shader.ts';
export type { ParamValue, ParamValues } from './gpu/uniforms.ts';
export { costOf, type DispatchCost } from './kernels/costs.ts';
export { chosenVersion, FAMILIES, forceVersion, useShader } from './kernels/families.ts';
export { VersionNotApplicable } from './kernels/family.ts';
export { type TuningTable, tuningOf } from './kernels/tuning.ts';
export type { ShaderText } from './kernels/user_shader.ts';
export { Captioner, type CaptionerOptions, type CaptionerSizes, DEFAULT_WIDTHS, PRESETS } from './model/captioner/captioner.ts';
export { EncoderNetwork, type EncoderOptions } from './model/encoder/network.ts';
export { OnnxModel } from './model/onnx/run.ts';
export { constant, glorotUniform, type Initializer, uniform, zerosInit } from './nn/initializers.ts';
export { Optimizer, type OptimizerOptions } from './nn/optimizer.ts';
export { type NamedArray, Parameters } from './nn/parameters.ts';
export { MAX_RANK, type Shape, sizeOf } from './tensor/shape.ts';
export { type DType, empty, full, memory, readTensors, Scope, scope, scoped, Tensor, type TypedArray, tensor, zeros } from './tensor/tensor.ts';
export { type TuneHooks, tune } from './tuning/tune.ts';
