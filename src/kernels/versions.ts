/**
 * Which version of a kernel runs. Launchers list the versions that can serve a problem on this adapter; the adapter's table
 * (tuning.ts) says which is fastest; tests, the self-test and the benchmark force one by name.
 */
import { GpuError } from '../errors.ts';
import type { Gpu } from '../gpu/device.ts';
import { tunedOrder } from './tuning.ts';

const forced = new Map<string, string>();
/** What ran last, per family, for reports. */
const chosen = new Map<string, string>();

/** Thrown when a forced version cannot serve the problem; the self-test counts it as skipped. */
export class VersionNotApplicable extends GpuError {
  constructor(family: string, version: string, able: readonly string[]) {
    super('limit', family, `version ${version} cannot serve this problem here (${able.join(', ')} can)`);
  }
}

/** Every family with its versions, in the order they were written. */
export const FAMILIES: Record<string, readonly string[]> = {
  matmul: [
    'v1_naive',
    'v2_register',
    'v3_subgroup',
    'v4_subgroup_pairs',
    'v5_workgroup',
    'v6_subgroup_texels',
    'v7_subgroup_texels_a',
    'v8_subgroup_rows',
    'v9_subgroup_texels_half',
    'v10_subgroup_texels_wide',
    'v11_subgroup_panels',
    'v12_subgroup_panels_half',
  ],
  conv2d: ['v1_direct', 'v2_im2col', 'v3_subgroup', 'v4_subgroup_texels', 'v5_subgroup_texels_x', 'v6_subgroup_texels_wide', 'v7_subgroup_panels'],
  reduce: ['v1_invocation', 'v2_workgroup'],
  softmax: ['v1_invocation', 'v2_subgroup', 'v3_workgroup'],
  cross_entropy: ['v1_invocation', 'v2_subgroup', 'v3_workgroup'],
  argmax_token: ['v1_invocation', 'v2_subgroup', 'v3_workgroup'],
  top_k: ['v1_invocation', 'v2_workgroup'],
  attention: ['v1_scalar', 'v2_vec4', 'v3_subgroup'],
};

export function forceVersion(family: string, version: string | null): void {
  if (!(family in FAMILIES)) throw new GpuError('internal', family, `is no kernel family (${Object.keys(FAMILIES).join(', ')})`);
  if (version === null) forced.delete(family);
  else if (FAMILIES[family].includes(version)) forced.set(family, version);
  else throw new GpuError('internal', family, `has no version ${version} (${FAMILIES[family].join(', ')})`);
}

/** The version that tests, the self-test or the benchmark want. */
export const forcedVersion = (family: string): string | undefined => forced.get(family);

/**
 * The forced version if there is one, else the fastest of `able` for this class of problems by the adapter's table, else the
 * first of `able`.
 */
export function chooseVersion(gpu: Gpu, family: string, key: string, able: readonly string[]): string {
  const wanted = forced.get(family);
  if (wanted && !able.includes(wanted)) throw new VersionNotApplicable(family, wanted, able);
  const version = wanted ?? tunedOrder(gpu, family, key).find((name) => able.includes(name)) ?? able[0];
  chosen.set(family, version);
  return version;
}

/** The version that served the family's last problem. */
export function chosenVersion(family: string): string | undefined {
  return chosen.get(family);
}

/** True when the shaders written for a known subgroup width (4 or 8, software drivers) can run. */
export function hasFixedSubgroup(gpu: Gpu): boolean {
  return gpu.subgroupWidth === 4 || gpu.subgroupWidth === 8;
}
