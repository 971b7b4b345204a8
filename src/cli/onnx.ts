/** `glimpse onnx check`: models against their own test data. */
import { checkModelFolder, type OnnxCase } from '../model/onnx/check.ts';
import type { OnnxCheckOptions } from './commands/onnx_check.ts';
import { result } from './output.ts';
import { withGpu } from './session.ts';

/** JSON has no infinity. Null is kept for what was not compared. */
const inJson = (value: number | null): number | string | null => (value === Number.POSITIVE_INFINITY ? 'infinite' : value);

const inText = (value: number | null): string => (value === Number.POSITIVE_INFINITY ? 'infinite' : (value?.toExponential(2) ?? ''));

export async function check(options: OnnxCheckOptions, folders: string[]): Promise<number> {
  return withGpu(options, async () => {
    const cases: OnnxCase[] = [];
    for (const folder of folders) cases.push(...(await checkModelFolder(folder, options.rtol, options.atol)));
    const count = (status: OnnxCase['status']) => cases.filter((c) => c.status === status).length;
    const [passed, failed, unsupported] = [count('passed'), count('failed'), count('unsupported')];
    const rows = cases.map((c) => ({ ...c, maxAbs: inJson(c.maxAbs), maxRel: inJson(c.maxRel) }));
    result(options, { passed, failed, unsupported, cases: rows }, () =>
      [
        ...cases.map(
          (c) =>
            `${c.status.padEnd(11)} ${c.name}${c.maxAbs === null ? '' : `  max abs ${inText(c.maxAbs)}, rel ${inText(c.maxRel)}`}${c.reason ? `\n            ${c.reason}` : ''}`,
        ),
        `${passed} passed, ${failed} failed, ${unsupported} unsupported`,
      ].join('\n'),
    );
    return failed > 0 ? 1 : 0;
  });
}
