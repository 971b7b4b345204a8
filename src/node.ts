/** What a program in Node imports: the engine, `openGpu` with its driver ladder, and the readers of files. */
export { readCoco, readFlickr, readKarpathy, readTable } from './data/caption_sources.ts';
export { type CaptionedImage, type Dataset, type DatasetReport, type PrepareOptions, prepareDataset, type Split } from './data/captions.ts';
export { type EncoderIdentity, FeatureStore, FeatureWriter } from './data/feature_store.ts';
export * from './index.ts';
export { type EncoderOptions, ImageEncoder, openEncoderOf } from './model/encoder/encoder.ts';
export { OnnxModel } from './model/onnx/run.ts';
export { type Checkpoint, loadCheckpoint, resolveCheckpoint, type TrainingConfig } from './model/training/checkpoint.ts';
export { type EpochReport, type StepReport, type TrainerHooks, type TrainerOptions, train } from './model/training/trainer.ts';
export { type OpenOptions, openGpu } from './platform/node/open.ts';
