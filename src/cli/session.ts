/** Opens the device for a command and closes it whatever happens. */
import type { Gpu } from '../gpu/gpu.ts';
import { openGpu } from '../platform/node/open.ts';
import { type CommonOptions, say } from './output.ts';

export async function withGpu<T>(options: CommonOptions, work: (gpu: Gpu) => Promise<T>): Promise<T> {
  const gpu = await openGpu({ adapter: options.adapter });
  say(options, `adapter: ${gpu.description}`);
  try {
    return await work(gpu);
  } finally {
    await gpu.close();
  }
}
