/**
 * A peer in a process of its own, on the same adapter as ours, told over the pipe what to time. With `stock` it runs as it
 * comes; else with the polling treatment that our engine gives itself.
 */
import { isSoftware } from '../../src/gpu/adapter.ts';
import { findAdapter } from '../../src/platform/node/driver.ts';
import { throttlePolling } from '../../src/platform/node/polling.ts';
import { summary, type Timing, timeWork } from '../sampling.ts';
import type { Engine, InputSet, Work } from '../work.ts';
import { openJax } from './jax.ts';
import { openOnnxruntime } from './onnxruntime.ts';
import { openTfjs } from './tfjs.ts';

export interface PeerRequest {
  work: Work;
  minSamples: number;
  maxSeconds: number;
}

/** `result` is what the last timed run wrote, on the activations of `set`; null where it cannot be compared. */
export type PeerAnswer = { timing: Timing; set: InputSet; result: Float32Array | null; peakBytes: number } | { unable: true } | { error: string };

const OPEN: Record<string, () => Promise<Engine>> = {
  'tfjs-webgpu': () => openTfjs('webgpu'),
  'tfjs-wasm': () => openTfjs('wasm'),
  'onnxruntime-web': () => openOnnxruntime('onnxruntime-web'),
  'onnxruntime-node-webgpu': () => openOnnxruntime('onnxruntime-node-webgpu'),
  'onnxruntime-cpu': () => openOnnxruntime('onnxruntime-cpu'),
  'jax-js': openJax,
};

const [name, adapter, stock] = process.argv.slice(2);
const found = await findAdapter(adapter, false, async () => null);
if (stock !== 'stock' && isSoftware(found.adapter.info)) throttlePolling();
// What a browser has and these libraries look for.
Object.defineProperty(globalThis, 'navigator', { value: { gpu: found.gpu, userAgent: 'node', hardwareConcurrency: 2 }, configurable: true });
Object.assign(globalThis, { self: globalThis, WorkerGlobalScope: class {} });

const opened = OPEN[name]().catch((error: Error) => error);
process.on('message', async ({ work, minSamples, maxSeconds }: PeerRequest) => {
  try {
    const engine = await opened;
    if (engine instanceof Error) throw engine;
    const prepared = await engine.prepare(work);
    if (!prepared) return process.send?.({ unable: true } satisfies PeerAnswer);
    const { sample, coldMs } = await timeWork(prepared, { minSamples, maxSeconds });
    const peakBytes = process.resourceUsage().maxRSS * 1024; // before the result is read, which is no part of the work
    const result = prepared.result ? Float32Array.from(await prepared.result()) : null;
    prepared.dispose();
    return process.send?.({ timing: summary(sample, coldMs), set: prepared.load ? 1 : 0, result, peakBytes } satisfies PeerAnswer);
  } catch (error) {
    return process.send?.({ error: String((error as Error)?.stack ?? error) } satisfies PeerAnswer);
  }
});
process.send?.({ ready: true });
