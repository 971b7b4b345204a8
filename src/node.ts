/** What a program in Node imports: the engine, `openGpu` with its driver ladder, and what reads files. */
export * from './index.ts';
export { ImageEncoder } from './model/encoder/encoder.ts';
export { OnnxModel } from './model/onnx/run.ts';
export { loadCheckpoint, resolveCheckpoint } from './model/training/checkpoint.ts';
export { type OpenOptions, openGpu } from './platform/node/open.ts';
