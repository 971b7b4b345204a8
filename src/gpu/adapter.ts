/**
 * What an adapter says about itself, read the same way in every host. Browsers mask names and give only vendor and
 * architecture, so these two are read as well.
 */
import type { AdapterInfo } from './webgpu_types.ts';

/** The texts of a `GPUAdapterInfo` that tell one adapter from another. */
const wordsOf = ({ device, description, vendor, architecture }: AdapterInfo): string => `${device} ${description} ${vendor} ${architecture}`;

/** Whether the adapter computes on the processor: its numbers are not those of a GPU. */
export function isSoftware(info: AdapterInfo): boolean {
  return info.isFallbackAdapter || /llvmpipe|lavapipe|swiftshader|software|warp/i.test(wordsOf(info));
}

export interface AdapterNames {
  adapter: string;
  driver: string;
}

/** The best names the adapter gives: device and description, else architecture and vendor, else "unknown". */
export function namesOf(info: AdapterInfo): AdapterNames {
  const masked = [info.vendor, info.architecture].filter(Boolean).join(' ');
  return { adapter: info.device || info.description || masked || 'unknown', driver: info.description || info.vendor || 'unknown' };
}

/** The kinds of adapter that a committed tuning table is for. */
export type AdapterKind = 'lavapipe' | 'swiftshader' | 'nvidia' | 'generic';

export function kindOf(info: AdapterInfo): AdapterKind {
  const words = wordsOf(info);
  if (/llvmpipe|lavapipe/i.test(words)) return 'lavapipe';
  if (/swiftshader/i.test(words)) return 'swiftshader';
  return /nvidia/i.test(words) ? 'nvidia' : 'generic';
}

/** What an adapter's matrix units can multiply, and in what they add. Not yet part of the standard. */
interface SubgroupMatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

/** Whether the adapter multiplies blocks of 16 × 16 halves and adds them up in float32. */
export function hasHalfMatrices(info: AdapterInfo): boolean {
  const configs = (info as { subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> }).subgroupMatrixConfigs ?? [];
  return [...configs].some((c) => c.componentType === 'f16' && c.resultComponentType === 'f32' && [c.M, c.N, c.K].every((side) => side === 16));
}
