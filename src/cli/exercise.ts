/** `glimpse exercise`: hands out files with holes, judges them, times them, shows solutions. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { UsageError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { shaderSource } from '../platform/node/shader_files.ts';
import { BUGS, EXERCISES, type Exercise, HUNTS, judgePart, placeAmongVersions, type Sheet, sheets } from '../study/exercises.ts';
import type { ExerciseOptions } from './commands/exercise.ts';
import { newKernelText } from './new_kernel.ts';
import { duration, progress, result } from './output.ts';
import { withGpu } from './session.ts';
import { againOnSaveOf } from './shaders.ts';

const sheetsOf = (exercise: Exercise): Sheet[] =>
  sheets(exercise, (file) => readFileSync(new URL(`../study/exercises/${file}`, import.meta.url), 'utf8'), newKernelText, shaderSource);

function find(given: string): Exercise {
  const number = /^\d+$/.test(given) ? given.padStart(2, '0') : given;
  const found = [...EXERCISES, ...HUNTS].find((each) => each.number === number);
  if (!found)
    throw new UsageError(`there is no exercise "${given}"; there are 1 to ${EXERCISES.length} and ${BUGS[0].number} to ${BUGS[BUGS.length - 1].number}`);
  return found;
}

const nameOf = ({ number, title }: Exercise) => `${number} ${title}`;

/** Judges all parts; `textOf` gives what is judged. */
async function judge(gpu: Gpu, exercise: Exercise, textOf: (sheet: Sheet) => { name: string; source: string }): Promise<{ right: boolean; says: string }> {
  const says: string[] = [];
  for (const sheet of sheetsOf(exercise)) {
    const { name, source } = textOf(sheet);
    const verdict = await judgePart(gpu, sheet, name, source);
    if (!verdict.right) return { right: false, says: `${name}: ${verdict.says}` };
    says.push(verdict.says);
  }
  return { right: true, says: says.join('; ') };
}

async function judgeAll(o: ExerciseOptions): Promise<number> {
  return withGpu(o, async (gpu) => {
    const started = performance.now();
    const bar = progress(o, 'exercise', EXERCISES.length, 'exercises');
    const verdicts: { number: string; title: string; right: boolean; says: string }[] = [];
    for (const [i, exercise] of EXERCISES.entries()) {
      const textOf = ({ file, start, solution }: Sheet) => {
        const own = join(o.folder, file);
        if (o.solutions) return { name: file, source: solution };
        return existsSync(own) ? { name: own, source: readFileSync(own, 'utf8') } : { name: file, source: start };
      };
      verdicts.push({ number: exercise.number, title: exercise.title, ...(await judge(gpu, exercise, textOf)) });
      bar.update(i + 1);
    }
    bar.stop();
    const right = verdicts.filter((verdict) => verdict.right).length;
    result(o, { adapter: gpu.description, right, of: verdicts.length, exercises: verdicts }, () =>
      [
        ...verdicts.map((v) => `${v.right ? 'right' : 'wrong'}  ${v.number} ${v.title}${v.right ? `: ${v.says}` : ''}`),
        `${right} of ${verdicts.length} in ${duration((performance.now() - started) / 1000)}`,
      ].join('\n'),
    );
    return right === verdicts.length ? 0 : 1;
  });
}

/** Judges the files of one exercise, and times them if they are right and it is asked for. */
async function judgeOne(gpu: Gpu, o: ExerciseOptions, exercise: Exercise): Promise<number> {
  const read = ({ file }: Sheet) => ({ name: join(o.folder, file), source: readFileSync(join(o.folder, file), 'utf8') });
  const { right, says } = await judge(gpu, exercise, read);
  const places: { file: string; versions: { version: string; ms: number }[] }[] = [];
  if (right && o.time)
    for (const sheet of sheetsOf(exercise)) {
      if (sheet.family === null) continue;
      const { name, source } = read(sheet);
      places.push({ file: name, versions: await placeAmongVersions(gpu, exercise, sheet.family, name, source) });
    }
  result(o, { exercise: exercise.number, right, says, ...(right ? {} : { hint: exercise.hint }), places }, () =>
    [
      right ? `right: ${says}` : `wrong: ${says}\nhint: ${exercise.hint}`,
      ...places.flatMap(({ file, versions }) => {
        const place = versions.findIndex(({ version }) => version.startsWith('user:')) + 1;
        if (place === 0) return [`${file}: there is nothing to time it in`];
        return [
          `${file}: place ${place} of ${versions.length} on ${gpu.description}`,
          ...versions.map(({ version, ms }, i) => `  ${i + 1}. ${version}  ${ms.toFixed(3)} ms`),
        ];
      }),
    ].join('\n'),
  );
  return right ? 0 : 1;
}

export async function exerciseCommand(o: ExerciseOptions, given: string | undefined): Promise<number> {
  if (o.all) {
    if (given) throw new UsageError(`--all judges every exercise; leave out ${given}`);
    return judgeAll(o);
  }
  if (!given) {
    const all = [...EXERCISES, ...HUNTS];
    result(
      o,
      all.map(({ number, title, chapter, parts }) => ({ number, title, chapter, files: parts.map(({ file }) => file) })),
      () => [...all.map((each) => `${nameOf(each)}  (chapter ${each.chapter})`), '', 'Begin with: glimpse exercise 1'].join('\n'),
    );
    return 0;
  }
  const exercise = find(given);
  const sheets = sheetsOf(exercise);
  if (o.show) {
    result(
      o,
      sheets.map(({ file, solution }) => ({ file, solution })),
      () => sheets.map(({ solution }) => solution.trimEnd()).join('\n\n'),
    );
    return 0;
  }
  const missing = sheets.filter(({ file }) => !existsSync(join(o.folder, file)));
  for (const { file, start } of missing) writeFileAtomic(join(o.folder, file), [start]);
  if (missing.length === sheets.length && !o.watch) {
    const files = sheets.map(({ file }) => join(o.folder, file));
    result(o, { exercise: exercise.number, title: exercise.title, written: files }, () =>
      [
        `Exercise ${nameOf(exercise)}`,
        ...files.map((file) => `  ${file}`),
        `Fill in the hole, then judge it: glimpse exercise ${given} (with --watch on every save)`,
      ].join('\n'),
    );
    return 0;
  }
  return withGpu(o, (gpu) =>
    againOnSaveOf(
      o,
      sheets.map(({ file }) => join(o.folder, file)),
      () => judgeOne(gpu, o, exercise),
    ),
  );
}
