/** `glimpse average`: the mean of several checkpoints' weights as a checkpoint. It needs no GPU. */
import { existsSync } from 'node:fs';
import { UsageError } from '../errors.ts';
import { averaged } from '../model/training/average.ts';
import { resolveCheckpoint, saveModel } from '../model/training/checkpoint.ts';
import type { AverageOptions } from './commands/average.ts';
import { result } from './output.ts';
import { checkpointAt } from './session.ts';

export async function average(o: AverageOptions, out: string, models: string[]): Promise<number> {
  if (!out.endsWith('.safetensors')) throw new UsageError(`the first argument is the checkpoint to write, a name that ends in .safetensors; got ${out}`);
  if (existsSync(out)) throw new UsageError(`${out} is there already; name another file`);
  const paths = models.map(resolveCheckpoint);
  saveModel(out, averaged(paths.map((path) => checkpointAt(o, path))));
  result(o, { out, models: paths }, () => [`${out}: the mean of ${paths.length} models`, ...paths.map((path) => `  ${path}`)].join('\n'));
  return 0;
}
