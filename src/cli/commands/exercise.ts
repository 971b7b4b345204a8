/** `glimpse exercise`: declared. */
import { type Condition, FLAG, type OptionsOf, text, withOption, withoutOption } from '../../options.ts';
import { command, DEVICE, OUTPUT } from '../command.ts';

const ONE: Condition = { to: 'one exercise', why: '--all judges the files as they are', holds: ({ all }) => all !== true };

const options = {
  folder: { values: text('folder'), default: 'exercises', help: 'folder of your files' },
  show: { values: FLAG, belongsTo: [ONE], help: 'print the solution' },
  time: { values: FLAG, belongsTo: [ONE, withoutOption('show', 'a file that is judged')], help: 'give its place among the built-in versions' },
  watch: { values: FLAG, belongsTo: [ONE, withoutOption('show', 'a file that is judged')], help: 'judge again whenever the file is saved, until Ctrl-C' },
  all: { values: FLAG, help: 'judge all exercises; those without a file count as not done' },
  solutions: { values: FLAG, belongsTo: [withOption('all')], help: 'judge the solutions instead of your files' },
  ...DEVICE,
  ...OUTPUT,
} as const;
export type ExerciseOptions = OptionsOf<typeof options>;

export const exercise = command({
  name: 'exercise',
  description: 'an exercise of the course: writes a file with a hole, then says right, or the first wrong element and a hint',
  arguments: { '[number]': '1 to 12, or b1 to b6 for a kernel with a bug; without it, the list' },
  options,
  run: async () => (await import('../exercise.ts')).exerciseCommand,
});
