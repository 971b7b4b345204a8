/**
 * A peer in a process of its own, on the same adapter as ours, told over the pipe what to do in its turns. With `stock` it runs
 * as it comes; else with the polling treatment that our engine gives itself.
 */
import { isSoftware } from '../../src/gpu/adapter.ts';
import { findAdapter } from '../../src/platform/node/driver.ts';
import { throttlePolling } from '../../src/platform/node/polling.ts';
import { shaderSource } from '../../src/platform/node/shader_files.ts';
import { deviceFlush } from '../flush.ts';
import { LocalTurns } from '../sampling.ts';
import type { Engine, InputSet, Prepared, Work } from '../work.ts';
import { openJax } from './jax.ts';
import { openOnnxruntime } from './onnxruntime.ts';
import { openTfjs } from './tfjs.ts';

export type PeerRequest = { kind: 'prepare'; work: Work } | { kind: 'sample' } | { kind: 'finish' };

/** `result` is what the last timed run wrote, on the activations of `set`; null where it cannot be compared. */
export interface PeerEnd {
  set: InputSet;
  result: Float32Array | null;
  peakBytes: number;
}

export type PeerAnswer =
  | { kind: 'prepared'; coldMs: number; runsPerSample: number; includes: string | null }
  | { kind: 'unable' }
  | { kind: 'sampled'; ms: number }
  | ({ kind: 'finished' } & PeerEnd)
  | { kind: 'error'; error: string };

const OPEN: Record<string, () => Promise<Engine>> = {
  'tfjs-webgpu': () => openTfjs('webgpu'),
  'tfjs-wasm': () => openTfjs('wasm'),
  'onnxruntime-web': () => openOnnxruntime('onnxruntime-web'),
  'onnxruntime-node-webgpu': () => openOnnxruntime('onnxruntime-node-webgpu'),
  'onnxruntime-cpu': () => openOnnxruntime('onnxruntime-cpu'),
  'jax-js': openJax,
};

const [name, adapter, stock] = process.argv.slice(2);
const found = await findAdapter(adapter, false, (each) => each.requestDevice());
const flush = deviceFlush(found.device, shaderSource('roof_copy'));
if (stock !== 'stock' && isSoftware(found.adapter.info)) throttlePolling();
// What a browser has and these libraries look for.
Object.defineProperty(globalThis, 'navigator', { value: { gpu: found.gpu, userAgent: 'node', hardwareConcurrency: 2 }, configurable: true });
Object.assign(globalThis, { self: globalThis, WorkerGlobalScope: class {} });

const opened = OPEN[name]().catch((error: Error) => error);
let current: { prepared: Prepared; turns: LocalTurns } | null = null;

async function answer(request: PeerRequest): Promise<PeerAnswer> {
  if (request.kind === 'prepare') {
    const engine = await opened;
    if (engine instanceof Error) throw engine;
    current?.prepared.dispose();
    current = null;
    const prepared = await engine.prepare(request.work);
    if (!prepared) return { kind: 'unable' };
    current = { prepared, turns: new LocalTurns(prepared, flush) };
    return { kind: 'prepared', ...(await current.turns.prepare()), includes: prepared.includes ?? null };
  }
  if (!current) throw new Error('nothing is prepared');
  const { prepared, turns } = current;
  if (request.kind === 'sample') return { kind: 'sampled', ms: await turns.sample() };
  const { set } = await turns.finish();
  const peakBytes = process.resourceUsage().maxRSS * 1024; // before the result is read, which is no part of the work
  const result = prepared.result ? Float32Array.from(await prepared.result()) : null;
  prepared.dispose();
  current = null;
  return { kind: 'finished', set, result, peakBytes };
}

process.on('message', async (request: PeerRequest) => {
  process.send?.(await answer(request).catch((error): PeerAnswer => ({ kind: 'error', error: String((error as Error)?.stack ?? error) })));
});
process.send?.({ ready: true });
