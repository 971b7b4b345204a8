/** `glimpse tune`: finds the fastest version of every kernel on this adapter and keeps the table for later runs. */
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { makeFolder, onFile, writeFileAtomic } from '../data/atomic_file.ts';
import { UsageError } from '../errors.ts';
import { FAMILIES } from '../kernels/families.ts';
import { tuningPath } from '../platform/node/tuning_files.ts';
import { tune } from '../tuning/tune.ts';
import type { TuneOptions } from './commands/tune.ts';
import { progress, result, say } from './output.ts';
import { withGpu } from './session.ts';

export async function tuneCommand(o: TuneOptions): Promise<number> {
  const choices = Object.keys(FAMILIES).filter((family) => FAMILIES[family].versions.length > 1);
  const families = o.family ?? choices;
  for (const family of families)
    if (!choices.includes(family)) throw new UsageError(`the kernel families with several versions are ${choices.join(', ')}; got "${family}"`);
  return withGpu(o, async (gpu) => {
    const path = o.out ?? tuningPath(gpu);
    say(o, 'checking every version against its reference, then timing those that agree');
    const refused: { family: string; version: string; reason: string }[] = [];
    let bar: ReturnType<typeof progress> | null = null;
    const table = await tune(gpu, cpus()[0]?.model.trim() ?? 'an unknown processor', families, {
      onRefused(family, version, reason) {
        refused.push({ family, version, reason });
        say(o, `left out: ${family} ${version} (${reason})`);
      },
      onProblem(problem, done, total) {
        bar ??= progress(o, 'tune', total, 'problems');
        bar.update(done, `${problem.family} ${problem.shape}`);
      },
    });
    (bar as ReturnType<typeof progress> | null)?.stop();
    onFile(path, () => makeFolder(dirname(path)));
    writeFileAtomic(path, [`${JSON.stringify(table, null, 2)}\n`]);
    result(o, { path, refused, ...table }, () => {
      const lines = table.problems.map(({ family, key, shape, medianMs = {} }) => {
        const order = Object.entries(medianMs).sort(([, a], [, b]) => a - b);
        return `${`${family} ${key}`.padEnd(24)} ${shape.padEnd(28)} ${order.map(([version, ms]) => `${version} ${ms.toFixed(2)}`).join(', ')}`;
      });
      return [gpu.description, 'median milliseconds, fastest first', ...lines, `kept in ${path}; runs on this adapter use it from now on`].join('\n');
    });
    return 0;
  });
}
