/**
 * Finds a working adapter: a real GPU, else an installed lavapipe, else the embedded SwiftShader. Each `create()` of Dawn's
 * bindings reads the Vulkan environment again, so all of this ladder can be tried in one process.
 */
import { tmpdir } from 'node:os';
import { create, globals } from 'webgpu';
import { GpuError, messageOf, UsageError } from '../../errors.ts';
import { isSoftware } from '../../gpu/adapter.ts';
import { embeddedDriver } from './embedded_driver.ts';
import { withoutNativeStderr } from './native_stderr.ts';

Object.assign(globalThis, globals);

/**
 * Dawn's root objects, by what they were made with. Dawn crashes if one is garbage-collected while its device lives, and each new one
 * costs threads that are never given back. So a process keeps every one that it made.
 */
const roots = new Map<string, GPU>();

/** What the Vulkan loader reads of the environment whenever a root is made. */
const VULKAN = ['VK_ICD_FILENAMES', 'VK_DRIVER_FILES', 'VK_ADD_DRIVER_FILES'];

export interface FoundAdapter {
  gpu: GPU;
  adapter: GPUAdapter;
  /** Why this adapter was taken, and what failed before it. */
  reason: string;
}

/** Values of `GLIMPSE_ADAPTER` and `--adapter`. Any other text selects the adapter by a part of its name. */
export const ADAPTER_CHOICES = ['auto', 'gpu', 'lavapipe', 'swiftshader', 'null'] as const;

const FLAGS = ['disable-dawn-features=timestamp_quantization'];
/** Makes Dawn offer subgroup matrices, an experiment of its own, and halves on NVIDIA's GPUs, which it holds back there. */
const EXPERIMENTS = 'enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia';

/** Whether the environment asks for subgroup matrices. */
export function asksForSubgroupMatrix(): boolean {
  const text = process.env.GLIMPSE_SUBGROUP_MATRIX ?? '';
  if (text !== '' && text !== '1') throw new UsageError(`GLIMPSE_SUBGROUP_MATRIX: expected 1 or nothing, got "${text}"`);
  return text === '1';
}

/** Asks Dawn for an adapter, without the warnings that it prints for its own developers. */
const tryCreate = (flags: string[], environment: Record<string, string>) => withoutNativeStderr(() => askDawn(flags, environment));

async function askDawn(flags: string[], environment: Record<string, string>): Promise<{ gpu: GPU; adapter: GPUAdapter } | string> {
  const before = new Map(Object.keys(environment).map((name) => [name, process.env[name]]));
  Object.assign(process.env, environment);
  const all = [...flags, ...FLAGS, ...(asksForSubgroupMatrix() ? [EXPERIMENTS] : [])];
  const key = JSON.stringify([all, ...VULKAN.map((name) => process.env[name])]);
  try {
    const gpu = roots.get(key) ?? create(all);
    roots.set(key, gpu);
    const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
    return adapter ? { gpu, adapter } : 'no adapter';
  } catch (error) {
    return messageOf(error).trim().split('\n')[0];
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

/** Maps a Vulkan loader into the process, so that Dawn finds it by its soname. Node's error that it is no addon is ignored. */
function loadVulkanLoader(path: string): void {
  const RTLD_NOW = 2;
  const RTLD_GLOBAL = 0x100;
  const RTLD_NODELETE = 0x1000;
  try {
    process.dlopen({ exports: {} } as NodeJS.Module, path, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
  } catch (error) {
    if (!messageOf(error).includes('did not self-register')) throw error;
  }
}

/** Says that the system has no Vulkan loader; null if it has one. Dawn without a loader would print a warning. */
function withoutLoader(): string | null {
  if (process.platform !== 'linux') return null;
  try {
    loadVulkanLoader('libvulkan.so.1');
    return null;
  } catch {
    return 'no Vulkan loader (libvulkan.so.1)';
  }
}

type Rung = { name: string; open: () => Promise<{ gpu: GPU; adapter: GPUAdapter } | string>; accept?: (info: GPUAdapterInfo) => boolean };

function swiftShaderRungs(): Rung[] {
  return [
    {
      name: 'SwiftShader (embedded) through the system loader',
      open: async () => withoutLoader() ?? (await tryCreate(['adapter=SwiftShader'], { VK_ADD_DRIVER_FILES: embeddedDriver().manifest })),
    },
    {
      name: 'SwiftShader (embedded) through its own loader',
      open: () => {
        const driver = embeddedDriver();
        loadVulkanLoader(driver.loader);
        return tryCreate([], { VK_ICD_FILENAMES: driver.manifest, VK_DRIVER_FILES: driver.manifest });
      },
      accept: (info) => /swiftshader/i.test(`${info.device} ${info.description}`),
    },
  ];
}

function rungs(choice: string): Rung[] {
  const installed: Rung = { name: 'installed Vulkan drivers', open: async () => withoutLoader() ?? (await tryCreate([], {})) };
  switch (choice) {
    case 'auto':
      return [installed, ...swiftShaderRungs()];
    case 'gpu':
      return [{ ...installed, name: 'a GPU', accept: (info) => !isSoftware(info) }];
    case 'lavapipe':
      return [{ name: 'lavapipe', open: async () => withoutLoader() ?? (await tryCreate(['adapter=llvmpipe'], {})) }];
    case 'swiftshader':
      return swiftShaderRungs();
    case 'null':
      return [{ name: 'the null backend', open: () => tryCreate(['backend=null', EXPERIMENTS], {}) }];
    default:
      return [{ name: `an adapter named like "${choice}"`, open: () => tryCreate([`adapter=${choice}`], {}) }];
  }
}

/**
 * Tries the rungs for `wanted` (default: `GLIMPSE_ADAPTER`, else auto) until `open` makes a device. The null backend compiles
 * but executes nothing, so it is taken only with `allowNull`. Throws a GpuError that lists what failed if no rung works.
 */
export async function findAdapter<D>(
  wanted: string | undefined,
  allowNull: boolean | undefined,
  open: (adapter: GPUAdapter) => Promise<D>,
): Promise<FoundAdapter & { device: D }> {
  const choice = wanted || process.env.GLIMPSE_ADAPTER || 'auto';
  if (choice === 'null' && !allowNull) throw new UsageError('the null backend executes nothing: choose another adapter');
  asksForSubgroupMatrix(); // throws here, not once for each rung
  process.env.XDG_RUNTIME_DIR ??= tmpdir();
  const failures: string[] = [];
  for (const rung of rungs(choice)) {
    let result: Awaited<ReturnType<Rung['open']>>;
    try {
      result = await rung.open();
    } catch (error) {
      result = messageOf(error);
    }
    if (typeof result === 'string') {
      failures.push(`${rung.name}: ${result}`);
      continue;
    }
    const { gpu, adapter } = result;
    if (rung.accept && !rung.accept(adapter.info)) {
      failures.push(`${rung.name}: found only ${adapter.info.device || adapter.info.description}`);
      continue;
    }
    if (/null/i.test(adapter.info.description) && !allowNull) {
      failures.push(`${rung.name}: only the null backend answered`);
      continue;
    }
    let device: D;
    try {
      device = await open(adapter); // without a device, the adapter is useless
    } catch (error) {
      failures.push(`${rung.name}: ${messageOf(error)}`);
      continue;
    }
    const reason = [choice === 'auto' ? `first that works: ${rung.name}` : `asked for: ${choice}`, ...failures].join('; ');
    return { gpu, adapter, device, reason };
  }
  throw new GpuError(
    'no-adapter',
    'finding an adapter',
    `none works.\n    ${failures.join('\n    ')}`,
    'Run `glimpse doctor` for what to install on this system.',
  );
}
