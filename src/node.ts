/** What a program in Node imports: the engine, `openGpu` with its driver ladder, and the readers of files. */
export { readCoco, readFlickr, readKarpathy, readTable } from './data/caption_sources.ts';
export { type CaptionedImage, type Dataset, type DatasetReport, type PrepareOptions, prepareDataset, type Split } from './data/captions.ts';
export type { EncoderIdentity } from './data/encoder_identity.ts';
export { FeatureStore } from './data/feature_store.ts';
export { FeatureWriter } from './data/feature_writer.ts';
export { openFile } from './data/file_source.ts';
export * from './index.ts';
export { ImageEncoder, openEncoderOf } from './model/encoder/encoder.ts';
export { loadCheckpoint, resolveCheckpoint } from './model/training/checkpoint.ts';
export { type Checkpoint, parseCheckpoint, type TrainingConfig } from './model/training/checkpoint_format.ts';
export { type EpochReport, type StepReport, type TrainerHooks, type TrainerOptions, train } from './model/training/trainer.ts';
export { type OpenOptions, openGpu } from './platform/node/open.ts';
