/** Every family of kernels. Tests, self-test, benchmark and tuner walk this list. */
import { GpuError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { scaledDotProductFamily, scaledDotProductGradKeysFamily, scaledDotProductGradQueryFamily } from './attention.ts';
import { conv2dFamily, conv2dGradInputFamily, conv2dGradWeightFamily } from './conv.ts';
import { axpbyFamily, binaryRowsFamily } from './elementwise.ts';
import type { Family } from './family.ts';
import { matmulFamily } from './matmul.ts';
import { adamFamily } from './optimizer.ts';
import { attentionFamily, attentionGradFamily, attentionScoresGradFamily, lstmCellFamily, lstmCellGradFamily } from './recurrent.ts';
import { reduceFamily } from './reduce.ts';
import { argmaxTokenFamily, crossEntropyFamily, softmaxFamily, softmaxGradFamily, topKFamily } from './rows.ts';
import { replaceVersions, type ShaderText } from './user_shader.ts';

/** The families of kernels by name: the versions of each, and which one runs. */
export const FAMILIES: Readonly<Record<string, Family<never>>> = Object.fromEntries(
  [
    matmulFamily,
    conv2dFamily,
    conv2dGradInputFamily,
    conv2dGradWeightFamily,
    reduceFamily,
    softmaxFamily,
    softmaxGradFamily,
    crossEntropyFamily,
    argmaxTokenFamily,
    topKFamily,
    attentionFamily,
    attentionScoresGradFamily,
    attentionGradFamily,
    scaledDotProductFamily,
    scaledDotProductGradQueryFamily,
    scaledDotProductGradKeysFamily,
    lstmCellFamily,
    lstmCellGradFamily,
    adamFamily,
    axpbyFamily,
    binaryRowsFamily,
  ].map((family) => [family.name, family as unknown as Family<never>]),
);

/**
 * Puts a WGSL text of yours in the place of all versions of a kernel family, for whatever runs it from now on. Null takes it out
 * again. It is not checked here: `checkUserShader` does that. kernels/user_shader.ts says what the text must have. Throws a
 * UsageError with the line where it does not compile, or with what it lacks.
 */
export function useShader(gpu: Gpu, family: string, text: ShaderText | null): Promise<void> {
  return replaceVersions(gpu, familyOf(family), text);
}

export function familyOf(name: string): Family<never> {
  const family = FAMILIES[name];
  if (!family) throw new GpuError('internal', name, `is no kernel family (${Object.keys(FAMILIES).join(', ')})`);
  return family;
}

/** Makes one version serve every problem of a family, or lets the table decide again (null). */
export function forceVersion(family: string, version: string | null): void {
  familyOf(family).force(version);
}

/** The version that served the family's last problem. */
export function chosenVersion(family: string): string | undefined {
  return familyOf(family).chosen;
}
