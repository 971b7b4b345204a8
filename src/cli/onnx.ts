/** `glimpse onnx check`: models against their own test data. */
import { checkModelFolder, type OnnxCase } from '../model/onnx/check.ts';
import type { OnnxCheckOptions } from './commands/onnx_check.ts';
import { result } from './output.ts';
import { withGpu } from './session.ts';

export async function check(options: OnnxCheckOptions, folders: string[]): Promise<number> {
  return withGpu(options, async () => {
    const cases: OnnxCase[] = [];
    for (const folder of folders) cases.push(...(await checkModelFolder(folder, options.rtol, options.atol)));
    const count = (status: OnnxCase['status']) => cases.filter((c) => c.status === status).length;
    const [passed, failed, unsupported] = [count('passed'), count('failed'), count('unsupported')];
    result(options, { passed, failed, unsupported, cases }, () =>
      [
        ...cases.map(
          (c) =>
            `${c.status.padEnd(11)} ${c.name}${c.maxAbs === null ? '' : `  max abs ${c.maxAbs.toExponential(2)}, rel ${c.maxRel?.toExponential(2)}`}${c.reason ? `\n            ${c.reason}` : ''}`,
        ),
        `${passed} passed, ${failed} failed, ${unsupported} unsupported`,
      ].join('\n'),
    );
    return failed > 0 ? 1 : 0;
  });
}
