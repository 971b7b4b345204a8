/**
 * Opens a device in a browser, on the browser's own WebGPU. Shaders and tuning tables come from a bundle. Browsers report faults
 * late and cannot keep scopes of concurrent async functions apart (src/context.ts). So run one piece of work at a time, in a worker.
 */
import { GpuError, type GpuErrorKind, messageOf } from '../../errors.ts';
import { Gpu, makeCurrent, requestDevice } from '../../gpu/gpu.ts';
import type { WebGpu } from '../../gpu/webgpu_types.ts';
import { FAMILIES } from '../../kernels/families.ts';
import { type TuningTable, tuningFrom, useTuning } from '../../kernels/tuning.ts';
import { SHADERS, TUNED } from './bundle.js';
import { keptTuning } from './tuning_store.ts';

/** Options of `openGpu` in a browser. */
export interface OpenOptions {
  /** Which adapter to ask the browser for. Default: the fastest. */
  adapter?: 'high-performance' | 'low-power' | 'software';
  /** Byte budget of the pool. Default: only the browser's own limit. */
  budgetBytes?: number;
  /** An entry to WebGPU to use instead of `navigator.gpu`. */
  gpu?: WebGpu;
  /** Open the device with the limits that the standard guarantees, and without optional features. */
  guaranteedLimits?: boolean;
}

const UNBOUNDED = 2 ** 36;

function shaderSource(file: string): string {
  const text = SHADERS[file];
  if (text === undefined) throw new GpuError('shader', file, 'is not in the bundle of shaders');
  return text;
}

function advice(kind: GpuErrorKind): string {
  switch (kind) {
    case 'out-of-memory':
      return 'Use a smaller batch, or close other pages that use the GPU.';
    case 'lost':
      return 'The browser gave up on the device: reload the page.';
    default:
      return '';
  }
}

async function findAdapter(root: GPU | undefined, wanted: OpenOptions['adapter']): Promise<GPUAdapter> {
  const operation = 'finding an adapter';
  if (!root)
    throw new GpuError(
      'no-adapter',
      operation,
      'this browser has no WebGPU here',
      'Use a current Chrome, Edge, Firefox or Safari, on a page served over https or from localhost.',
    );
  const options: GPURequestAdapterOptions = wanted === 'software' ? { forceFallbackAdapter: true } : { powerPreference: wanted ?? 'high-performance' };
  const adapter = await root.requestAdapter(options).catch((error) => {
    throw new GpuError('no-adapter', operation, messageOf(error));
  });
  if (!adapter)
    throw new GpuError('no-adapter', operation, 'the browser offers none', 'Its settings may have switched the GPU off, or its driver may be on a blocklist.');
  return adapter;
}

/** Opens a device and makes it the current one, on which tensors are made. Throws a GpuError if the browser offers no adapter. */
export async function openGpu(options: OpenOptions = {}): Promise<Gpu> {
  const root = options.gpu ?? globalThis.navigator?.gpu;
  const adapter = await findAdapter(root, options.adapter);
  const device = options.guaranteedLimits ? await adapter.requestDevice({ label: 'glimpse' }) : await requestDevice(adapter);
  const opened = new Gpu(device, {
    adapter: { info: adapter.info, features: adapter.features as ReadonlySet<string>, reason: 'offered by the browser' },
    languageFeatures: root.wgslLanguageFeatures as ReadonlySet<string>,
    shaderSource,
    budgetBytes: options.budgetBytes ?? UNBOUNDED,
    lateFaults: true,
    advice,
  });
  const kept = await keptTuning(opened);
  useTuning(opened, () => tuningFrom(opened, (family) => FAMILIES[family]?.shaders ?? [], TUNED[opened.kind] as TuningTable, kept));
  return makeCurrent(opened);
}
