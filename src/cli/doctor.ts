/** `glimpse doctor`: which adapter and driver, why that one, and what would be better. */

import * as ops from '../autograd/ops/index.ts';
import { GpuError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { tuningOf } from '../kernels/tuning.ts';
import { adviceFor } from '../platform/node/advice.ts';
import { openGpu } from '../platform/node/open.ts';
import { full, scope } from '../tensor/tensor.ts';
import { type CommonOptions, result } from './output.ts';

const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupsPerDimension',
  'maxComputeWorkgroupStorageSize',
] as const;

export async function doctor(options: CommonOptions): Promise<number> {
  let gpu: Gpu;
  try {
    gpu = await openGpu({ adapter: options.adapter });
  } catch (error) {
    if (!(error instanceof GpuError) || error.kind !== 'no-adapter') throw error;
    const advice = adviceFor('', true);
    result(options, { adapter: null, driver: null, software: null, reason: error.message, works: false, features: [], limits: {}, advice }, () =>
      [error.message, '', ...advice].join('\n'),
    );
    return 1;
  }
  try {
    const { features, reason } = gpu.host.adapter;
    const limits = Object.fromEntries(LIMITS.map((name) => [name, gpu.device.limits[name]]));
    const works = await addsTwoAndTwo();
    const report = {
      adapter: gpu.adapterName,
      driver: gpu.driverName,
      software: gpu.software,
      reason,
      works,
      subgroupWidth: gpu.subgroupWidth,
      features: [...features].sort(),
      limits,
      tuning: tuningOf(gpu).source,
      advice: adviceFor(gpu.adapterName, gpu.software),
    };
    result(options, report, () =>
      [
        `adapter   ${report.adapter}${report.software ? '  (a software adapter: numbers it gives are not those of a GPU)' : ''}`,
        `driver    ${report.driver}`,
        `chosen    ${reason}`,
        `computes  ${works ? 'yes, 2 + 2 = 4 on the device' : 'NO: a kernel gave a wrong result'}`,
        `subgroups ${report.subgroupWidth ? `width ${report.subgroupWidth}` : 'of no fixed width'}`,
        `tuning    ${report.tuning}`,
        `features  ${report.features.join(', ')}`,
        ...Object.entries(limits).map(([name, value]) => `limit     ${name} ${value}`),
        ...(report.advice.length > 0 ? ['', 'For a better adapter:', ...report.advice.map((line) => `  ${line}`)] : []),
      ].join('\n'),
    );
    return works ? 0 : 1;
  } finally {
    await gpu.close();
  }
}

async function addsTwoAndTwo(): Promise<boolean> {
  using _scope = scope();
  const sum = await ops.add(full([5], 2), full([5], 2)).data();
  return sum.every((value) => value === 4);
}
