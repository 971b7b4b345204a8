/**
 * Runs ONNX's own tests of operators and models (Debian's package libonnx-testdata), and writes the tables in docs/onnx.md:
 *
 *     npx tsx scripts/onnx_suite.ts [FOLDER]
 *
 * FOLDER has the folders node, simple, pytorch-converted and pytorch-operator; without it, the package's own is taken. The column
 * of onnxruntime-web is what its package says of its WebGPU backend (`npm run oracles` installs it).
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { openFile } from '../src/data/file_source.ts';
import { checkModelFolder, type OnnxCase } from '../src/model/onnx/check.ts';
import { GRADIENT } from '../src/model/onnx/gradients.ts';
import { OPERATORS } from '../src/model/onnx/operators/index.ts';
import { readOnnx } from '../src/model/onnx/proto.ts';
import { openGpu } from '../src/node.ts';
import { withPart } from './page_part.ts';

/** Where Debian's package puts the tests, and the sets of them. */
export const SUITE = process.env.GLIMPSE_ONNX_TESTS ?? '/usr/include/onnx/backend/test/data';
export const SETS = ['node', 'simple', 'pytorch-converted', 'pytorch-operator'] as const;

/** Tests that no implementation of the standard can meet, by the beginnings of their names, and why. */
export const CONTRADICTIONS: Readonly<Record<string, string>> = {
  test_bernoulli: 'the expected numbers are those of NumPy’s generator',
  test_castlike_BFLOAT16_to_FLOAT: 'an input is declared as [3, 4] and given as [1]',
  test_castlike_FLOAT_to_BFLOAT16: 'an input is declared as [3, 4] and given as [1]',
  test_cast_FLOAT_to_BFLOAT16: 'the expected numbers are cut; the standard rounds to the nearest since opset 13',
  test_adam_multiple: 'the file lacks the epsilon of 0.01 that its numbers were made with',
  test_resize_downsample_scales_cubic_align_corners: 'it takes extent · scale for the new extent, which is its floor; onnxruntime and PyTorch do as we do',
  test_resize_downsample_scales_linear_align_corners: 'it takes extent · scale for the new extent, which is its floor; onnxruntime and PyTorch do as we do',
};

export interface SuiteCase extends OnnxCase {
  set: string;
  test: string;
}

export const contradictionOf = (test: string): string | null => CONTRADICTIONS[Object.keys(CONTRADICTIONS).find((name) => test.startsWith(name)) ?? ''] ?? null;

/** Runs every test of a set, with the tolerances of ONNX's own runner. */
export async function runSet(set: string): Promise<SuiteCase[]> {
  const cases: SuiteCase[] = [];
  for (const test of readdirSync(join(SUITE, set)).sort())
    for (const each of await checkModelFolder(join(SUITE, set, test), 1e-3, 1e-5)) cases.push({ ...each, set, test });
  return cases;
}

/** The operator that a test is about: that of its only node, or the one whose function its nodes write out. */
function subjectOf({ set, test }: SuiteCase): string {
  const { graph, close } = readOnnx(openFile(join(SUITE, set, test, 'model.onnx')));
  close();
  const [first] = graph.nodes;
  return /^(\w+?)_test_/.exec(first.name)?.[1] ?? first.op;
}

/** Operators that onnxruntime-web lists for WebGPU; null if it is not installed. */
function listedElsewhere(): { version: string; operators: Set<string> } | null {
  const base = new URL('../oracles/node_modules/onnxruntime-web/', import.meta.url);
  if (!existsSync(base)) return null;
  const page = readFileSync(new URL('docs/webgpu-operators.md', base), 'utf8');
  return {
    version: JSON.parse(readFileSync(new URL('package.json', base), 'utf8')).version,
    operators: new Set([...page.matchAll(/^\| (\w+) \|/gm)].map(([, name]) => name)),
  };
}

const [FIRST, LAST] = ['<!-- made by scripts/onnx_suite.ts: do not edit -->', '<!-- end of the tables -->'];

function tables(cases: readonly SuiteCase[], adapter: string): string {
  const other = listedElsewhere();
  const count = (of: readonly SuiteCase[], status: OnnxCase['status']) => of.filter((each) => each.status === status).length;
  const sets = SETS.map((set) => {
    const of = cases.filter((each) => each.set === set);
    const contradicted = of.filter(({ status, test }) => status === 'failed' && contradictionOf(test));
    const wrong = count(of, 'failed') - contradicted.length;
    return `| ${set} | ${of.length} | ${count(of, 'passed')} | ${((100 * count(of, 'passed')) / of.length).toFixed(1)} % | ${count(of, 'unsupported')} | ${contradicted.length} | ${wrong} |`;
  });
  const bySubject = new Map<string, SuiteCase[]>();
  for (const each of cases.filter(({ set }) => set === 'node')) {
    const subject = subjectOf(each);
    bySubject.set(subject, [...(bySubject.get(subject) ?? []), each]);
  }
  const names = [...new Set([...Object.keys(OPERATORS).filter((name) => !name.startsWith('Fused')), ...bySubject.keys(), ...(other?.operators ?? [])])].sort();
  const where = (name: string): string => {
    const operator = OPERATORS[name];
    if (!operator) return '–';
    if (name === GRADIENT) return 'GPU'; // it runs the graph that it is given, of floats
    return [operator.device ? 'GPU' : '', operator.host ? 'host' : '', operator.any || operator.control ? 'any value' : ''].filter(Boolean).join(', ');
  };
  const rows = names.map((name) => {
    const of = bySubject.get(name) ?? [];
    return `| ${name} | ${where(name)} | ${of.length > 0 ? `${count(of, 'passed')} of ${of.length}` : ''} | ${other?.operators.has(name) ? 'yes' : ''} |`;
  });
  const refused = cases
    .filter(({ status }) => status === 'unsupported')
    .map(({ set, test, reason = '' }) => `| ${set}/${test} | ${reason.replace(/^.*?model\.onnx: /, '').replaceAll('|', '\\|')} |`);
  return [
    `Adapter: ${adapter}.`,
    '',
    '| set | tests | passed | | refused | contradicted | wrong |',
    '|---|---:|---:|---:|---:|---:|---:|',
    ...sets,
    '',
    'Contradicted are tests that the standard itself does not bear out:',
    '',
    ...Object.entries(CONTRADICTIONS).map(([name, why]) => `- \`${name}\`: ${why}.`),
    '',
    'Refused, with the reason that is printed:',
    '',
    '| test | reason |',
    '|---|---|',
    ...refused,
    '',
    '## By operator',
    '',
    `"GPU" is computed by the engine's kernels, "host" exactly in JavaScript: whole numbers, shapes, short lists. Tests are those of the set \`node\`.${other ? ` The last column is the list that onnxruntime-web ${other.version} publishes for its WebGPU backend.` : ''}`,
    '',
    '| operator | runs on | tests passed | onnxruntime-web |',
    '|---|---|---:|---|',
    ...rows,
  ].join('\n');
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  if (!existsSync(SUITE)) {
    process.stderr.write(`${SUITE} is not there: install Debian's libonnx-testdata, or set GLIMPSE_ONNX_TESTS\n`);
    process.exit(1);
  }
  const gpu = await openGpu();
  const cases: SuiteCase[] = [];
  for (const set of SETS) {
    cases.push(...(await runSet(set)));
    process.stderr.write(`${set} done\n`);
  }
  const page = new URL('../docs/onnx.md', import.meta.url);
  const description = `${gpu.description}${gpu.software ? ', a software adapter' : ''}`;
  writeFileSync(page, withPart(readFileSync(page, 'utf8'), FIRST, LAST, tables(cases, description)));
  await gpu.close();
  process.exit(0);
}
