/** Opens a device in Node: the driver ladder, a byte budget from the free memory, shaders and tuning tables from files. */
import './async_context.ts';
import { freemem } from 'node:os';
import { GpuError, type GpuErrorKind } from '../../errors.ts';
import { isSoftware } from '../../gpu/adapter.ts';
import { Gpu, makeCurrent, requestDevice } from '../../gpu/gpu.ts';
import { useTuning } from '../../kernels/tuning.ts';
import { asksForSubgroupMatrix, findAdapter } from './driver.ts';
import { throttlePolling } from './polling.ts';
import { shaderSource } from './shader_files.ts';
import { loadTuning } from './tuning_files.ts';

/** Options of `openGpu` in Node. */
export interface OpenOptions {
  /** One of `ADAPTER_CHOICES` or a part of an adapter's name. Default: `GLIMPSE_ADAPTER`, else auto. */
  adapter?: string;
  /** Accept the null backend too, which compiles but does not execute. */
  allowNull?: boolean;
  /** Byte budget of the pool. Default: `GLIMPSE_MEMORY_MB`, else 60 % of the memory free now on a software adapter. */
  budgetBytes?: number;
}

/** The budget on a software adapter, as a share of the free memory. */
const SHARE_OF_FREE = 0.6;
/** A GPU reports when its memory is full, so it needs no budget. */
const UNBOUNDED = 2 ** 36;

function budgetFromEnvironment(): number | undefined {
  const text = process.env.GLIMPSE_MEMORY_MB;
  if (!text) return undefined;
  const value = Number(text);
  if (!(value > 0)) throw new GpuError('limit', 'GLIMPSE_MEMORY_MB', `expected a positive number of MiB, got "${text}"`);
  return value * 2 ** 20;
}

function advice(kind: GpuErrorKind): string {
  switch (kind) {
    case 'out-of-memory':
      return 'Use a smaller batch, or lower GLIMPSE_MEMORY_MB so that the pool refuses earlier.';
    case 'lost':
      return 'The driver gave up on the device: run again, and try --adapter swiftshader if it persists.';
    default:
      return '';
  }
}

/** Opens a device and makes it the current one, on which tensors are made. Throws a GpuError if no adapter works. */
export async function openGpu(options: OpenOptions = {}): Promise<Gpu> {
  const { device, gpu: root, adapter, reason } = await findAdapter(options.adapter, options.allowNull, requestDevice);
  const software = isSoftware(adapter.info);
  if (software) throttlePolling();
  const opened = new Gpu(device, {
    adapter: { info: adapter.info, features: adapter.features, reason },
    languageFeatures: root.wgslLanguageFeatures,
    shaderSource,
    budgetBytes: options.budgetBytes ?? budgetFromEnvironment() ?? (software ? Math.floor(SHARE_OF_FREE * freemem()) : UNBOUNDED),
    lateFaults: false,
    advice,
  });
  if (asksForSubgroupMatrix() && !opened.hasSubgroupMatrix && !options.allowNull) {
    await opened.close();
    throw new GpuError(
      'limit',
      'GLIMPSE_SUBGROUP_MATRIX',
      `expected an adapter whose subgroups of 32 multiply blocks of 16 × 16 halves and add them in float32, got ${opened.description}`,
      'Unset it to run without.',
    );
  }
  useTuning(opened, () => loadTuning(opened));
  return makeCurrent(opened);
}
