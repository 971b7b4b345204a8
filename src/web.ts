/** What a web page imports: the engine, and `openGpu` on the browser's own WebGPU. */
export * from './index.ts';
export { type OpenOptions, openGpu } from './platform/web/open.ts';
export { keepTuning } from './platform/web/tuning_store.ts';
