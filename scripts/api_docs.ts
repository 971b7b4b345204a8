/**
 * Writes docs/api.md from the op table and the docstrings of what `glimpse` exports: `npx tsx scripts/api_docs.ts`. Examples
 * are run, errors are those that the calls throw, and kernels are those that ran. A test compares the page with what this
 * would write, so that it cannot fall behind.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Op } from '../src/autograd/op.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { apply, backward, variable } from '../src/autograd/tape.ts';
import { currentGpu } from '../src/gpu/gpu.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { type DType, full, readTensors, scoped, Tensor, tensor, zeros } from '../src/tensor/tensor.ts';
import { type Exported, Exports, isFunction, ROOT } from './exported.ts';

export const API_PAGE = join(ROOT, 'docs/api.md');
const ENTRIES = ['src/node.ts', 'src/web.ts'];
const OPS_FILE = 'src/autograd/ops/index.ts';

/** Sections of the page: their titles, and the files whose exports stand there. */
const SECTIONS: readonly [string, RegExp][] = [
  ['Devices', /^src\/(platform|tuning|gpu\/(gpu|capture|pool|profiler)\.ts|kernels\/tuning\.ts)/],
  ['Tensors and scopes', /^src\/tensor\//],
  ['Gradients', /^src\/autograd\/(tape|gradcheck)\.ts/],
  ['Parameters and optimizers', /^src\/nn\//],
  ['Captioner', /^src\/(model\/captioner\/|model\/training\/options\.ts|data\/words\.ts)/],
  ['Pictures, features and training', /^src\/(data|model)\//],
  ['Ops and kernels of your own', /^src\/(autograd\/(op|check)\.ts|autograd\/ops\/index\.ts|gpu\/|kernels\/)/],
  ['Errors', /^src\/errors\.ts/],
];

/** Groups of ops: the files that hold them, and their titles. */
const GROUPS: Record<string, string> = {
  elementwise: 'Elementwise',
  reduce: 'Reductions',
  shape: 'Shapes',
  gather: 'Elements by index',
  scan: 'Running sums',
  select: 'Elementwise',
  matmul: 'Matrix product',
  attention: 'Cells and attention',
  conv: 'Convolution and pooling',
  conv_volume: 'Convolution and pooling',
  conv_transpose: 'Convolution and pooling',
  pool: 'Convolution and pooling',
  pad: 'Pictures on other grids',
  resize: 'Pictures on other grids',
  norm: 'Normalization',
  rows: 'Rows of scores',
  beam: 'Beam search',
  embedding: 'Embedding',
  halves: 'Half precision',
  recurrent: 'Cells and attention',
  attention_lstm: 'The recurrent loop of the captioner',
  optimizer: 'Updates',
};

const OPENING = `# API

Made by \`npx tsx scripts/api_docs.ts\` from the op table and the docstrings of the source: do not edit. The examples were run.

\`\`\`ts
import { apply, full, OPS, openGpu, ops, tensor, zeros } from 'glimpse';
\`\`\`

In Node and in browsers \`glimpse\` exports the same engine, each with its own \`openGpu\`. Only Node has what reads files.

What holds for every op:

- Tensors are dense and row-major, of at most 6 axes. Types are f32, u32 and i32; gradients are f32.
- An op returns new tensors on the device of its first input. Nothing waits until a value is read.
- A GlimpseError says so when an input has another type than the table names, or is used after \`dispose()\`.
- A ShapeError names the op and the shapes that do not fit.
- A GpuError names the operation at which the device failed: memory, limits, a lost device.`;

const OPS_NOTE =
  '`entry(name)` stands for `OPS.find((op) => op.name === name)`. A family has several versions of a kernel; [kernels.md](kernels.md) describes them.';

const code = (text: string) => `\`\`\`ts\n${text}\n\`\`\``;

/** Runs a call as it stands in the docs. What `tensor` and `full` make are variables if `tracked`. */
function run(text: string, tracked = false): unknown {
  const track = (made: Tensor) => (tracked && made.dtype === 'f32' ? variable(made) : made);
  const names = {
    ops,
    apply,
    entry: (name: string) => OPS.find((op) => op.name === name) as Op,
    zeros: (shape: number[], dtype?: DType) => zeros(shape, dtype),
    tensor: (values: number[] | Uint32Array, shape?: number[]) => track(tensor(values, shape)),
    full: (shape: number[], value: number) => track(full(shape, value)),
  };
  return new Function(...Object.keys(names), `return ${text};`)(...Object.values(names));
}

/** The tensors of a result, by their names in it. */
function named(op: Op, result: unknown): [string, Tensor][] {
  if (result instanceof Tensor) return [[op.outputs[0], result]];
  if (Array.isArray(result)) return result.map((each, i) => [op.outputs[i], each]);
  return Object.entries(result as Record<string, Tensor>);
}

/** The example of an op with the shape and numbers of each output, to four digits. */
async function exampleText(op: Op, example: string): Promise<string> {
  const results = named(op, run(example));
  const arrays = await readTensors(results.map(([, each]) => each));
  const line = ([name, { shape }]: [string, Tensor], i: number) =>
    `// ${name} [${shape.join(', ')}]: ${Array.from(arrays[i], (value) => Number(value.toPrecision(4))).join(' ')}`;
  return code([example, ...results.map(line)].join('\n'));
}

function refusalText(call: string): string {
  try {
    run(call);
  } catch (error) {
    const { name, message } = error as Error;
    return `- \`${call}\` → ${name}: ${message}`;
  }
  throw new Error(`the docs say that this is refused, but it runs: ${call}`);
}

/** Kernels of a piece of work. Of every family the first version runs, so that the text is the same on all adapters. */
function kernelsOf(work: () => void, own: readonly (string | undefined)[]): string {
  const gpu = currentGpu();
  const ran = new Set<string>();
  const before = gpu.trace;
  const all = Object.values(FAMILIES);
  for (const family of all) family.force(family.names[0]);
  gpu.trace = ({ kernel }) => ran.add(kernel.name);
  try {
    work();
  } finally {
    gpu.trace = before;
    for (const family of all) family.force(null);
  }
  const families = [...own.flatMap((name) => (name ? [FAMILIES[name]] : [])), ...all];
  const told = [...ran].map((kernel) => {
    const family = families.find(({ shaders }) => shaders.includes(kernel));
    if (!family) return `[\`${kernel}.wgsl\`](../src/kernels/wgsl/${kernel}.wgsl)`;
    return `family [\`${family.name}\`](kernels.md#${family.name})${own.includes(family.name) ? ` (${family.names.join(', ')})` : ''}`;
  });
  return [...new Set(told)].sort().join(', ') || 'none, nothing is computed';
}

/** Takes a tensor to a number, and gives zeros as its gradient: what runs in `backward` is then the op's own. */
const END: Op<null> = {
  ...{ name: 'end', inputs: ['x'], outputs: ['loss'], attrs: null },
  shape: () => [[]],
  forward: () => {},
  backward: ({ inputShapes: [x] }) => [() => zeros(x)],
  reference: () => [],
  cost: () => ({ flops: 0, bytes: 0 }),
  cases: [],
};

/** The kernels that an op runs, and those of its gradient. */
function kernelsText(op: Op, example: string): string {
  const differentiable = typeof op.backward === 'function';
  let outputs: [string, Tensor][] = [];
  const forward = kernelsOf(() => {
    outputs = named(op, run(example, differentiable));
  }, [op.family]);
  if (!differentiable) return `Kernels: ${forward}.`;
  if (outputs[0][1].dtype !== 'f32') throw new Error(`${op.name}: its example gives ${outputs[0][1].dtype}, which has no gradient`);
  const [loss] = apply(END, [outputs[0][1]], null);
  return `Kernels: ${forward}. Of the gradient: ${kernelsOf(() => backward(loss), [...(op.gradientFamilies ?? []), op.family])}.`;
}

async function opText(op: Op, signatures: ReadonlyMap<string, string>): Promise<string> {
  const { doc } = op;
  if (!doc) throw new Error(`${op.name} has no doc in the op table`);
  const typeOf = (name: string, types: readonly DType[] | undefined, i: number) =>
    op.anyType && !op.ids?.[name] ? 'any' : (types?.[i] ?? types?.[types.length - 1] ?? 'f32');
  const row = (arrow: string, name: string, type: string) => {
    if (!doc.tensors[name]) throw new Error(`the doc of ${op.name} says nothing of ${name}`);
    return `| ${arrow}\`${name}\` | ${type} | ${doc.tensors[name].replace(/\|/g, '\\|')} |`;
  };
  const tensors = [
    ...['| tensor | type | shape and meaning |', '|---|---|---|'],
    ...op.inputs.map((name, i) => row('', name, typeOf(name, op.inputTypes, i))),
    ...op.outputs.map((name, i) => row('→ ', name, typeOf(name, op.outputTypes, i))),
  ];
  const gradient = typeof op.backward === 'string' ? `none: ${op.backward}` : doc.gradient;
  if (!gradient) throw new Error(`the doc of ${op.name} does not say its gradient`);
  const signature = signatures.get(functionOf(op) ?? '');
  if (!signature && !doc.runBy) throw new Error(`${op.name} is no function of ops, and its doc does not say what runs it`);
  return scoped(async () =>
    [
      `#### ${op.name}`,
      signature ? code(signature) : `Run by ${doc.runBy}; it is no function of \`ops\`.`,
      `**${doc.equation}**`,
      tensors.join('\n'),
      `Gradient: ${gradient}`,
      kernelsText(op, doc.example),
      await exampleText(op, doc.example),
      doc.refused ? `Refused:\n\n${doc.refused.map(refusalText).join('\n')}` : 'No shape is refused.',
    ].join('\n\n'),
  );
}

/** The function of `ops` that runs an op: the one that its example calls. */
const functionOf = ({ doc }: Op): string | undefined => /^ops\.(\w+)\(/.exec(doc?.example ?? '')?.[1];

/** The file of each entry of the table, without ending. */
async function opFiles(): Promise<Map<Op, string>> {
  const files = new Map<Op, string>();
  for (const name of Object.keys(GROUPS)) {
    const module: Record<string, unknown> = await import(`../src/autograd/ops/${name}.ts`);
    const found = Object.values(module).flatMap((value) => (value && typeof value === 'object' ? [value, ...Object.values(value)] : []));
    for (const each of found) if (OPS.includes(each as Op)) files.set(each as Op, name);
  }
  return files;
}

/** What the table of ops documents needs no docstring; everything else does. The names of what lacks one. */
export function undocumented(): string[] {
  const exports = new Exports(ENTRIES);
  const inTable = new Set(OPS.map(functionOf));
  const lacking = (each: Exported) => {
    const missing = exports.docOf(each.symbol) === '' ? [each.symbol.name] : [];
    const plain = /^(constructor|name|dispose|\[Symbol\.dispose\])$/;
    const members =
      each.symbol.valueDeclaration?.kind && /^class /.test(each.symbol.valueDeclaration.getText().replace(/^export /, ''))
        ? exports.membersOf(each.symbol)
        : [];
    return [...missing, ...members.filter(({ name, doc }) => doc === '' && !plain.test(name)).map(({ name }) => `${each.symbol.name}.${name}`)].map(
      (name) => `${name} (${each.file})`,
    );
  };
  return [...exports.all, ...exports.of(OPS_FILE).filter(({ symbol }) => !inTable.has(symbol.name) && symbol.name !== 'OPS')].flatMap(lacking).sort();
}

const linkTo = (title: string) => `[${title}](#${title.toLowerCase().replace(/,/g, '').replace(/ /g, '-')})`;

/** The whole page. It needs an open device. */
export async function apiPage(): Promise<string> {
  const exports = new Exports(ENTRIES);
  const sections = SECTIONS.map(([title]) => ({ title, texts: [] as string[] }));
  for (const each of exports.all) {
    const at = SECTIONS.findIndex(([, files]) => files.test(each.file));
    if (at < 0) throw new Error(`no section of the page holds ${each.symbol.name} of ${each.file}`);
    sections[at].texts.push(exports.described(each));
  }
  const ofOps = exports.of(OPS_FILE).filter(({ symbol }) => symbol.name !== 'OPS');
  const signatures = new Map(ofOps.filter(isFunction).map(({ symbol }) => [symbol.name, exports.signature(symbol)]));
  const groups = new Map<string, string[]>();
  const files = await opFiles();
  for (const op of OPS) {
    const title = GROUPS[files.get(op) ?? ''];
    if (!title) throw new Error(`no group of the page holds ${op.name}`);
    groups.set(title, [...(groups.get(title) ?? []), await opText(op, signatures)]);
  }
  const inTable = new Set(OPS.map(functionOf));
  const below = (each: Exported) => exports.described(each).replace(/^###/, '####');
  return `${[
    OPENING,
    `Ops: ${[...groups.keys()].map(linkTo).join(' · ')}. Everything else: ${sections.map(({ title }) => linkTo(title)).join(' · ')}.`,
    '## Ops',
    OPS_NOTE,
    ...[...groups].flatMap(([title, texts]) => [`### ${title}`, ...texts]),
    '### Made of other ops',
    ...ofOps.filter((each) => isFunction(each) && !inTable.has(each.symbol.name)).map(below),
    '### Types of options',
    ...ofOps.filter((each) => !isFunction(each)).map(below),
    ...sections.flatMap(({ title, texts }) => [`## ${title}`, ...texts]),
  ].join('\n\n')}\n`;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const gpu = await openGpu();
  writeFileSync(API_PAGE, await apiPage());
  await gpu.close();
}
