/** `glimpse selftest`: the op table, the whole captioner, or a shader of the user's, on the present adapter. */
import { type CaseResult, checkOp, checkUserShader } from '../autograd/check.ts';
import { OPS } from '../autograd/ops/index.ts';
import { UsageError } from '../errors.ts';
import type { Gpu } from '../gpu/gpu.ts';
import { checkGolden } from '../model/captioner/golden.ts';
import type { SelftestOptions } from './commands/selftest.ts';
import { duration, progress, result } from './output.ts';
import { withGpu } from './session.ts';
import { againOnSave, failureLine, readShaders, useShaders } from './shaders.ts';

/** A golden through whatever is in use; shaders of the user's alone; or all ops. */
async function check(gpu: Gpu, o: SelftestOptions): Promise<CaseResult[]> {
  const shaders = readShaders(o.shader);
  await useShaders(gpu, shaders);
  if (o.golden) return checkGolden(o.golden);
  const cases: CaseResult[] = [];
  if (shaders.length > 0) {
    for (const { family } of shaders) cases.push(...(await checkUserShader(family)));
    return cases;
  }
  const chosen = OPS.filter(({ name }) => !o.op || o.op.includes(name));
  const bar = progress(o, 'selftest', chosen.length, 'ops');
  for (const [i, op] of chosen.entries()) {
    cases.push(...(await checkOp(op)));
    bar.update(i + 1, op.name);
  }
  bar.stop();
  return cases;
}

async function report(gpu: Gpu, o: SelftestOptions): Promise<number> {
  const started = performance.now();
  const cases = await check(gpu, o);
  const count = (status: CaseResult['status']) => cases.filter((c) => c.status === status).length;
  const [passed, failed, skipped] = [count('passed'), count('failed'), count('skipped')];
  // JSON has no infinity: an error that is none is null.
  const finite = (value: number) => (Number.isFinite(value) ? value : null);
  const rows = cases.map((c) => ({ ...c, maxAbs: finite(c.maxAbs), maxRel: finite(c.maxRel) }));
  result(o, { adapter: gpu.description, passed, failed, skipped, cases: rows }, () => {
    const skips = skipped > 0 ? ` (${o.shader ? 'cases that run another kernel, or that' : 'versions that'} this adapter or shape cannot run)` : '';
    const names = (o.shader ?? []).map(({ family, file }) => `${family} user:${file}`);
    return [
      ...cases.filter((c) => c.status === 'failed').map(failureLine),
      `${gpu.description}`,
      ...names,
      `${passed} passed, ${failed} failed, ${skipped} skipped${skips} in ${duration((performance.now() - started) / 1000)}`,
    ].join('\n');
  });
  return failed > 0 || passed === 0 ? 1 : 0;
}

export async function selftest(o: SelftestOptions): Promise<number> {
  const names = OPS.map(({ name }) => name);
  for (const op of o.op ?? []) if (!names.includes(op)) throw new UsageError(`there is no op "${op}"; the ops are ${names.join(', ')}`);
  readShaders(o.shader); // what is wrong with the names is told before a device opens
  return withGpu(o, (gpu) => againOnSave(o, () => report(gpu, o)));
}
