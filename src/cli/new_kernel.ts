/** `glimpse new-kernel`: a version of a family as a file of the user's, with the commands that judge and time it. */
import { existsSync } from 'node:fs';
import { writeFileAtomic } from '../data/atomic_file.ts';
import { UsageError } from '../errors.ts';
import { FAMILIES } from '../kernels/families.ts';
import type { Family, Version } from '../kernels/family.ts';
import { startText } from '../kernels/user_shader.ts';
import { shaderSource } from '../platform/node/shader_files.ts';
import type { NewKernelOptions } from './commands/new_kernel.ts';
import { result } from './output.ts';

/** The text of a new shader of a family, which begins as one of its versions. `file` is the name that its commands use. */
export function newKernelText(family: Family<never>, like: string, file: string): string {
  const version = family.named(like) as Version<never>;
  const head = [
    `// Your own kernel for the family ${family.name}. It begins as the version \`${like}\`: ${version.idea}.`,
    '//',
    `//   npx glimpse selftest --shader ${family.name}=${file} --watch     is it right?`,
    `//   npx glimpse bench --shader ${family.name}=${file} --watch        is it fast?`,
    '//',
    '// Keep the bindings, the fields of Params and the override constants: the launcher fills them by name. A constant marked',
    '// @launch only says how the built-in version shares out its work, so yours may do without it. All else is yours.',
    '// Other workgroups than the built-in version has: a line "@grid X Y Z" here, such as "@grid rows/4" (fields of Params).',
    '',
  ];
  return `${head.join('\n')}${startText(family, like, shaderSource(version.shader))}`;
}

export async function newKernel(o: NewKernelOptions, name: string, given: string | undefined): Promise<number> {
  const family = FAMILIES[name];
  if (!family) throw new UsageError(`there is no kernel family "${name}"; the families are ${Object.keys(FAMILIES).join(', ')}`);
  const like = o.like ?? family.names[0];
  if (!family.names.includes(like)) throw new UsageError(`--like ${like}: the versions of ${name} are ${family.names.join(', ')}`);
  if (family.named(like).composed) throw new UsageError(`--like ${like}: it runs several kernels, so no single shader can stand in for it`);
  const file = given ?? `${name}.wgsl`;
  if (existsSync(file)) throw new UsageError(`${file} is there already; name another file`);
  writeFileAtomic(file, [newKernelText(family, like, file)]);
  result(o, { family: name, like, file }, () => `${file}: begins as ${name} ${like}\nJudge it: npx glimpse selftest --shader ${name}=${file}`);
  return 0;
}
