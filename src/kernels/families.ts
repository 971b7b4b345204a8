/** Every family of kernels. Tests, self-test, benchmark and tuner walk this list. */
import { GpuError } from '../errors.ts';
import { conv2dFamily, conv2dGradInputFamily, conv2dGradWeightFamily } from './conv.ts';
import { axpbyFamily, binaryRowsFamily } from './elementwise.ts';
import type { Family } from './family.ts';
import { matmulFamily } from './matmul.ts';
import { adamFamily } from './optimizer.ts';
import { attentionFamily, attentionGradFamily, attentionScoresGradFamily, lstmCellFamily, lstmCellGradFamily } from './recurrent.ts';
import { reduceFamily } from './reduce.ts';
import { argmaxTokenFamily, crossEntropyFamily, softmaxFamily, softmaxGradFamily, topKFamily } from './rows.ts';

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
    lstmCellFamily,
    lstmCellGradFamily,
    adamFamily,
    axpbyFamily,
    binaryRowsFamily,
  ].map((family) => [family.name, family as unknown as Family<never>]),
);

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
