/** `glimpse selftest`: the op table, or the whole captioner, on the present adapter. */
import { type CaseResult, checkOp } from '../autograd/check.ts';
import { OPS } from '../autograd/ops/index.ts';
import { UsageError } from '../errors.ts';
import { checkGolden } from '../model/captioner/golden.ts';
import type { SelftestOptions } from './commands/selftest.ts';
import { duration, progress, result } from './output.ts';
import { withGpu } from './session.ts';

export async function selftest(options: SelftestOptions): Promise<number> {
  const chosen = options.op ? OPS.filter(({ name }) => options.op?.includes(name)) : OPS;
  if (options.op && chosen.length !== options.op.length) throw new UsageError(`the ops are ${OPS.map(({ name }) => name).join(', ')}`);
  return withGpu(options, async (gpu) => {
    const started = performance.now();
    const cases: CaseResult[] = [];
    if (options.golden) cases.push(...(await checkGolden(options.golden)));
    else {
      const bar = progress(options, 'selftest', chosen.length, 'ops');
      for (const [i, op] of chosen.entries()) {
        cases.push(...(await checkOp(op)));
        bar.update(i + 1, op.name);
      }
      bar.stop();
    }
    const count = (status: CaseResult['status']) => cases.filter((c) => c.status === status).length;
    const [passed, failed, skipped] = [count('passed'), count('failed'), count('skipped')];
    // JSON has no infinity: an error that is none is null.
    const finite = (value: number) => (Number.isFinite(value) ? value : null);
    const rows = cases.map((c) => ({ ...c, maxAbs: finite(c.maxAbs), maxRel: finite(c.maxRel) }));
    result(options, { adapter: gpu.description, passed, failed, skipped, cases: rows }, () => {
      const lines = cases
        .filter((c) => c.status === 'failed')
        .map((c) => `FAILED ${c.op} ${c.version}, ${c.case}: off by ${c.maxAbs.toExponential(2)} (relative ${c.maxRel.toExponential(2)}) ${c.reason ?? ''}`);
      const skips = skipped > 0 ? ` (versions that this adapter or shape cannot run)` : '';
      return [
        ...lines,
        `${gpu.description}`,
        `${passed} passed, ${failed} failed, ${skipped} skipped${skips} in ${duration((performance.now() - started) / 1000)}`,
      ].join('\n');
    });
    return failed > 0 ? 1 : 0;
  });
}
