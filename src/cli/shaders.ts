/** Shaders of the user's on the command line: read, put in the place of their families' versions, checked, watched. */
import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import { type CaseResult, checkUserShader } from '../autograd/check.ts';
import { GlimpseError, messageOf, UsageError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { FAMILIES, useShader } from '../kernels/families.ts';
import type { ShaderText } from '../kernels/user_shader.ts';
import { printableLines } from '../printable.ts';
import type { ShaderChoice } from './command.ts';
import { type CommonOptions, say } from './output.ts';

export interface GivenShader {
  family: string;
  text: ShaderText;
}

/** Throws a UsageError for an unknown family, one given twice, or a file that cannot be read. */
export function readShaders(chosen: readonly ShaderChoice[] = []): GivenShader[] {
  const seen = new Set<string>();
  return chosen.map(({ family, file }) => {
    if (!(family in FAMILIES)) throw new UsageError(`--shader ${family}=${file}: the kernel families are ${Object.keys(FAMILIES).join(', ')}`);
    if (seen.has(family)) throw new UsageError(`--shader ${family} is given twice; only one shader can take the place of a family's versions`);
    seen.add(family);
    try {
      return { family, text: { name: file, source: readFileSync(file, 'utf8') } };
    } catch (error) {
      throw new UsageError(`--shader ${family}=${file}: ${messageOf(error)}`);
    }
  });
}

/** Puts shaders in the place of their families' versions. */
export async function useShaders(gpu: Gpu, shaders: readonly GivenShader[]): Promise<void> {
  for (const { family, text } of shaders) await useShader(gpu, family, text);
}

/** One line for a case that failed. */
export function failureLine(c: CaseResult): string {
  const off = `off by ${c.maxAbs.toExponential(2)} (relative ${c.maxRel.toExponential(2)})`;
  return `FAILED ${c.op} ${c.version}, ${c.case}: ${c.reason ?? off}${c.reason && c.maxAbs > 0 ? `; ${off}` : ''}`;
}

/** How a shader of the user's did: what it failed in, and how many cases it passed. */
export interface Verdict {
  family: string;
  version: string;
  passed: number;
  failed: CaseResult[];
}

/** Checks shaders that are in use on every case of every op that runs their family. */
export async function judge(shaders: readonly GivenShader[]): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const { family, text } of shaders) {
    const cases = await checkUserShader(family);
    const passed = cases.filter(({ status }) => status === 'passed').length;
    const failed = cases.filter(({ status }) => status === 'failed');
    if (passed + failed.length === 0) throw new UsageError(`${text.name}: no case of ${family} runs it here: ${cases[0]?.reason}`);
    verdicts.push({ family, version: `user:${text.name}`, passed, failed });
  }
  return verdicts;
}

/** Puts shaders in place for work that goes on with them. Throws a GlimpseError if one of them is wrong. */
export async function useCheckedShaders(gpu: Gpu, o: CommonOptions, shaders: readonly GivenShader[]): Promise<void> {
  await useShaders(gpu, shaders);
  for (const { family, version, passed, failed } of await judge(shaders)) {
    if (failed.length > 0)
      throw new GlimpseError(`${version} is wrong, so it is not used: ${failed.length} of ${passed + failed.length} cases failed\n  ${failureLine(failed[0])}`);
    say(o, `${family} runs ${version}: ${passed} cases passed`);
  }
}

/** Milliseconds between two looks at a watched file. */
const LOOK = 150;

/** Resolves when one of the files has been saved, or with false on Ctrl-C. */
function saved(files: readonly string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (again: boolean) => {
      for (const file of files) unwatchFile(file);
      process.off('SIGINT', onInterrupt);
      resolve(again);
    };
    const onInterrupt = () => end(false);
    process.once('SIGINT', onInterrupt);
    for (const file of files) watchFile(file, { interval: LOOK }, (now, before) => now.mtimeMs !== before.mtimeMs && now.size > 0 && end(true));
  });
}

/** Runs the work; with --watch again whenever a shader is saved, until Ctrl-C. Errors that a user can mend are told, and it goes on. */
export function againOnSave(o: CommonOptions & { watch: boolean; shader?: readonly ShaderChoice[] }, work: () => Promise<number>): Promise<number> {
  return againOnSaveOf(
    o,
    (o.shader ?? []).map(({ file }) => file),
    work,
  );
}

/** As `againOnSave`, of these files. */
export async function againOnSaveOf(o: CommonOptions & { watch: boolean }, files: readonly string[], work: () => Promise<number>): Promise<number> {
  if (!o.watch) return work();
  for (;;) {
    let code = 0;
    try {
      code = await work();
    } catch (error) {
      if (!(error instanceof GlimpseError)) throw error;
      process.stderr.write(`glimpse: ${printableLines(error.message)}\n`);
      code = error.exitCode;
    }
    say(o, `watching ${files.join(', ')}; Ctrl-C ends`);
    if (!(await saved(files))) return code;
  }
}
