/** Tuning in the browser: the table is kept for later visits, and offered as a file. */
import { messageOf } from '../../../src/errors.ts';
import type { Gpu } from '../../../src/gpu/gpu.ts';
import { FAMILIES } from '../../../src/kernels/families.ts';
import { keepTuning } from '../../../src/platform/web/tuning_store.ts';
import { tune } from '../../../src/tuning/tune.ts';
import type { Jobs } from '../protocol.ts';
import type { JobContext } from '../worker.ts';

export async function tuneHere(gpu: Gpu, context: JobContext<'tune'>): Promise<Jobs['tune']['result']> {
  const table = await tune(gpu, navigator.userAgent, Object.keys(FAMILIES), {
    onRefused: (family, version, reason) => context.tell({ text: `${family} ${version} is left out: ${reason}`, done: 0, total: 1 }),
    onProblem: ({ family, shape }, done, total) => {
      context.tell({ text: `${family} ${shape}`, done, total });
      return context.turn();
    },
  });
  try {
    await keepTuning(gpu, table);
    return { table, kept: null };
  } catch (error) {
    return { table, kept: messageOf(error) };
  }
}
