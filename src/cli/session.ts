/** What commands open: a device, closed again whatever happens, and the checkpoint of a model. */
import type { Gpu } from '../gpu/gpu.ts';
import { type Checkpoint, loadCheckpoint, resolveCheckpoint } from '../model/training/checkpoint.ts';
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

/** The checkpoint of a run or a file. What a reader should know of it is said. */
export function checkpointAt({ quiet }: Pick<CommonOptions, 'quiet'>, model: string): Checkpoint {
  return loadCheckpoint(resolveCheckpoint(model), (note) => say({ quiet }, note));
}
