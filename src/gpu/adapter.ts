/**
 * What an adapter says of itself, read the same way in every host. Browsers mask names: there only vendor and architecture
 * come, so those decide too.
 */

/** The texts of a `GPUAdapterInfo` that tell one adapter from another. */
const wordsOf = ({ device, description, vendor, architecture }: GPUAdapterInfo): string => `${device} ${description} ${vendor} ${architecture}`;

/** Whether the adapter computes on the processor: its numbers are not those of a GPU. */
export function isSoftware(info: GPUAdapterInfo): boolean {
  return info.isFallbackAdapter || /llvmpipe|lavapipe|swiftshader|software|warp/i.test(wordsOf(info));
}

export interface AdapterNames {
  adapter: string;
  driver: string;
}

/** The best names there are: device and description, else architecture and vendor, else "unknown". */
export function namesOf(info: GPUAdapterInfo): AdapterNames {
  const masked = [info.vendor, info.architecture].filter(Boolean).join(' ');
  return { adapter: info.device || info.description || masked || 'unknown', driver: info.description || info.vendor || 'unknown' };
}

/** The family of adapters that a committed tuning table is for. */
export function kindOf(info: GPUAdapterInfo): 'lavapipe' | 'swiftshader' | 'generic' {
  const words = wordsOf(info);
  if (/llvmpipe|lavapipe/i.test(words)) return 'lavapipe';
  return /swiftshader/i.test(words) ? 'swiftshader' : 'generic';
}
