/**
 * Writes docs/api.md from the op table and the docstrings of what `glimpse` exports: `npx tsx scripts/api_docs.ts`. Examples
 * are run, errors are those that the calls throw, and kernels are those that ran. A test compares the page with what this
 * would write, so that it cannot fall behind.
 */
import { writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';
import type { Op } from '../src/autograd/op.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { apply, backward, variable } from '../src/autograd/tape.ts';
import { currentGpu } from '../src/gpu/gpu.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { type DType, full, readTensors, scoped, Tensor, tensor, zeros } from '../src/tensor/tensor.ts';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..');
export const API_PAGE = join(ROOT, 'docs/api.md');

/** Sections of the page: their titles, and the files whose exports stand there. */
const SECTIONS: readonly [string, RegExp][] = [
  ['Devices', /^src\/(platform|tuning|gpu\/(gpu|capture|pool|profiler)\.ts|kernels\/tuning\.ts)/],
  ['Tensors and scopes', /^src\/tensor\//],
  ['Gradients', /^src\/autograd\/(tape|gradcheck)\.ts/],
  ['Parameters and optimizers', /^src\/nn\//],
  ['Captioner', /^src\/(model\/captioner\/|model\/training\/options\.ts|data\/words\.ts)/],
  ['Pictures, features, training', /^src\/(data|model)\//],
  ['Ops and kernels of your own', /^src\/(autograd\/(op|check)\.ts|autograd\/ops\/index\.ts|gpu\/|kernels\/)/],
  ['Errors', /^src\/errors\.ts/],
];

/** Titles of the groups of ops, by the file that holds them. */
const GROUPS: Record<string, string> = {
  elementwise: 'Elementwise',
  reduce: 'Reductions',
  shape: 'Shapes',
  matmul: 'Matrix product',
  conv: 'Convolution and pooling',
  norm: 'Normalization',
  rows: 'Rows of scores',
  beam: 'Beam search',
  embedding: 'Embedding',
  recurrent: 'Cells and attention',
  attention_lstm: 'The recurrent loop of the captioner',
  optimizer: 'Updates',
};

// ---- What the compiler knows -----------------------------------------------------------------------------------------

class Source {
  private readonly program: ts.Program;
  readonly checker: ts.TypeChecker;

  constructor(private readonly entries: readonly string[]) {
    const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile);
    const { options } = ts.parseJsonConfigFileContent(config, ts.sys, ROOT);
    this.program = ts.createProgram(
      entries.map((entry) => join(ROOT, entry)),
      options,
    );
    this.checker = this.program.getTypeChecker();
  }

  /** What a file exports, in alphabetical order, each with where it is declared. */
  exportsOf(entry: string): { symbol: ts.Symbol; file: string }[] {
    const file = this.program.getSourceFile(join(ROOT, entry));
    const module = file && this.checker.getSymbolAtLocation(file);
    if (!module) throw new Error(`${entry} exports nothing`);
    return this.checker
      .getExportsOfModule(module)
      .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? this.checker.getAliasedSymbol(symbol) : symbol))
      .filter(({ declarations = [] }) => declarations.length > 0 && !ts.isSourceFile(declarations[0]))
      .map((symbol) => ({ symbol, file: relative(ROOT, declaration(symbol).getSourceFile().fileName) }))
      .sort((a, b) => (a.symbol.name.toLowerCase() < b.symbol.name.toLowerCase() ? -1 : 1));
  }

  /** Everything that a program can import, once; `openGpu` and its options are two, one for each host. */
  get all(): { symbol: ts.Symbol; file: string }[] {
    return [...new Map(this.entries.flatMap((entry) => this.exportsOf(entry)).map((each) => [each.symbol, each])).values()];
  }

  docOf(symbol: ts.Symbol): string {
    return ts.displayPartsToString(symbol.getDocumentationComment(this.checker)).replace(/\s*\n\s*/g, ' ');
  }

  /** `name(x: Tensor, slope = 0.01): Tensor` */
  signature(symbol: ts.Symbol): string {
    const type = this.checker.getTypeOfSymbolAtLocation(symbol, declaration(symbol));
    const [signature] = type.getCallSignatures();
    const { typeParameters } = signature.declaration as ts.SignatureDeclaration;
    const generic = typeParameters ? `<${typeParameters.map((each) => each.getText()).join(', ')}>` : '';
    return `${symbol.name}${generic}(${this.parameters(signature)}): ${this.typeText(signature.getReturnType())}`;
  }

  parameters(signature: ts.Signature): string {
    return signature.parameters
      .map((parameter) => {
        const node = parameter.valueDeclaration as ts.ParameterDeclaration;
        if (node.type && !node.type.getText().includes('typeof')) return node.getText().replace(/\s+/g, ' ');
        if (node.initializer) return `${parameter.name} = ${node.initializer.getText()}`;
        return `${parameter.name}: ${this.typeText(this.checker.getTypeOfSymbol(parameter))}`;
      })
      .join(', ');
  }

  typeText(type: ts.Type): string {
    return this.checker.typeToString(type, undefined, ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.UseSingleQuotesForStringLiteralType);
  }
}

function declaration(symbol: ts.Symbol): ts.Declaration {
  const [first] = symbol.declarations ?? [];
  if (!first) throw new Error(`${symbol.name} is declared nowhere`);
  return first;
}

const code = (text: string) => `\`\`\`ts\n${text}\n\`\`\``;

/** The members of a class that a program may use. */
function membersOf(symbol: ts.Symbol): ts.ClassElement[] {
  const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;
  return (declaration(symbol) as ts.ClassDeclaration).members.filter(
    (member) => !(ts.getCombinedModifierFlags(member) & hidden) && !ts.getJSDocTags(member).some(({ tagName }) => tagName.text === 'internal'),
  );
}

/** What a member of a class is, without its body. */
function memberText(member: ts.ClassElement): string {
  const source = member.getSourceFile();
  const end = 'body' in member && member.body ? (member.body as ts.Node).getStart() : member.getEnd();
  const text = source.text.slice(member.getStart(), end).replace(/\s+/g, ' ').trim();
  if (ts.isPropertyDeclaration(member) && member.initializer)
    return text.slice(0, member.initializer.getStart() - member.getStart()).replace(/\s*=\s*$/, '');
  return text.replace(/;$/, '');
}

function described(source: Source, { symbol, file }: { symbol: ts.Symbol; file: string }): string {
  const node = declaration(symbol);
  const host = file.includes('platform/web') ? ' (browser)' : file.includes('platform/node') ? ' (Node)' : '';
  const head = `### ${symbol.name}${host}`;
  const doc = source.docOf(symbol);
  if (ts.isFunctionDeclaration(node)) return [head, code(source.signature(symbol)), doc].join('\n\n');
  if (ts.isClassDeclaration(node)) {
    const members = membersOf(symbol).map((member) => {
      const own = ts.isConstructorDeclaration(member) ? null : source.checker.getSymbolAtLocation(member.name as ts.Node);
      return `- \`${memberText(member)}\`${own && source.docOf(own) ? `: ${source.docOf(own)}` : ''}`;
    });
    return [head, doc, members.join('\n')].filter(Boolean).join('\n\n');
  }
  if (ts.isVariableDeclaration(node)) {
    const type = source.checker.getTypeOfSymbolAtLocation(symbol, node);
    const shown = type.getCallSignatures().length > 0 && !node.type ? source.signature(symbol) : `const ${symbol.name}: ${source.typeText(type)}`;
    return [head, code(shown), doc].join('\n\n');
  }
  return [head, doc, code(node.getText().replace(/^export /, ''))].filter(Boolean).join('\n\n');
}

/** Names of exports without a docstring. */
export function undocumented(): string[] {
  const source = new Source(ENTRIES);
  const all = [...source.all, ...source.exportsOf(OPS_FILE)];
  return [...new Set(all.filter(({ symbol }) => source.docOf(symbol) === '').map(({ symbol, file }) => `${symbol.name} (${file})`))].sort();
}

// ---- What running an op shows ----------------------------------------------------------------------------------------

const entry = (name: string): Op => OPS.find((op) => op.name === name) as Op;

/** Runs a call as it stands in the docs. In `traced` calls what `tensor` and `full` make are variables. */
function run(text: string, traced = false): unknown {
  const track = (made: Tensor) => (traced && made.dtype === 'f32' ? variable(made) : made);
  const scope = {
    ops,
    apply,
    entry,
    zeros: (shape: number[], dtype?: DType) => zeros(shape, dtype),
    tensor: (values: number[] | Uint32Array, shape?: number[]) => track(tensor(values, shape)),
    full: (shape: number[], value: number) => track(full(shape, value)),
  };
  return new Function(...Object.keys(scope), `return ${text};`)(...Object.values(scope));
}

/** The tensors of a result, by their names in it. */
function named(op: Op, result: unknown): [string, Tensor][] {
  if (result instanceof Tensor) return [[op.outputs[0], result]];
  if (Array.isArray(result)) return result.map((each, i) => [op.outputs[i], each]);
  return Object.entries(result as Record<string, Tensor>);
}

/** What the example of an op prints: each output's shape and numbers, to four digits. */
async function printed(op: Op, example: string): Promise<string> {
  const results = named(op, run(example));
  const arrays = await readTensors(results.map(([, each]) => each));
  const lines = results.map(([name, { shape }], i) => `// ${name} [${shape.join(', ')}]: ${Array.from(arrays[i], (value) => Number(value.toPrecision(4))).join(' ')}`);
  return code([example, ...lines].join('\n'));
}

function errorOf(call: string): string {
  try {
    run(call);
  } catch (error) {
    const { name, message } = error as Error;
    return `- \`${call}\`\n  ${name}: ${message}`;
  }
  throw new Error(`the docs say that this is refused, but it runs: ${call}`);
}

/** Kernels of a piece of work: families by their names, of which the first version runs, and single shaders. */
function kernelsOf(work: () => void, own: readonly (string | undefined)[]): string[] {
  const gpu = currentGpu();
  const ran: string[] = [];
  const before = gpu.trace;
  for (const family of Object.values(FAMILIES)) family.force(family.names[0]);
  gpu.trace = (kernel) => ran.push(kernel);
  try {
    work();
  } finally {
    gpu.trace = before;
    for (const family of Object.values(FAMILIES)) family.force(null);
  }
  const families = [...own.flatMap((name) => (name ? [FAMILIES[name]] : [])), ...Object.values(FAMILIES)];
  const told = ran.map((kernel) => {
    const family = families.find(({ shaders }) => shaders.includes(kernel));
    return family ? `family [\`${family.name}\`](kernels.md#${family.name}) (${family.names.join(', ')})` : `[\`${kernel}.wgsl\`](../src/kernels/wgsl/${kernel}.wgsl)`;
  });
  return [...new Set(told)].sort();
}

/** Kernels of the op, and of its gradient. */
function kernels(op: Op, example: string): string {
  let loss: Tensor | null = null;
  const forward = kernelsOf(() => {
    loss = named(op, run(example, typeof op.backward === 'function'))[0][1];
  }, [op.family]);
  const lines = [`Kernels: ${forward.length > 0 ? forward.join(', ') : 'none; nothing is computed'}.`];
  if (typeof op.backward === 'function') {
    const total = ops.sum(ops.reshape(loss as unknown as Tensor, [(loss as unknown as Tensor).size]));
    const ran = kernelsOf(() => backward(total), [op.gradientFamily, op.family]);
    lines.push(`Kernels of the gradient: ${ran.join(', ')}.`);
  }
  return lines.join(' ');
}

async function opText(op: Op, source: Source, functions: ReadonlyMap<string, ts.Symbol>): Promise<string> {
  const { doc } = op;
  if (!doc) throw new Error(`${op.name} has no doc in the op table`);
  const called = /ops\.(\w+)\(/.exec(doc.example.startsWith('apply') ? '' : doc.example)?.[1];
  const symbol = called === undefined ? undefined : functions.get(called);
  const typeOf = (types: readonly DType[] | undefined, i: number) => (op.anyType ? 'any' : (types?.[i] ?? types?.[types.length - 1] ?? 'f32'));
  const row = (name: string, type: string, arrow: string) => {
    if (!doc.tensors[name]) throw new Error(`the doc of ${op.name} says nothing of ${name}`);
    return `| ${arrow}\`${name}\` | ${type} | ${doc.tensors[name].replace(/\|/g, '\\|')} |`;
  };
  const tensors = [
    '| tensor | type | shape and meaning |',
    '|---|---|---|',
    ...op.inputs.map((name, i) => row(name, typeOf(op.inputTypes, i), '')),
    ...op.outputs.map((name, i) => row(name, typeOf(op.outputTypes, i), '→ ')),
  ];
  const gradient = typeof op.backward === 'string' ? `none: ${op.backward}.` : doc.gradient;
  if (!gradient) throw new Error(`the doc of ${op.name} does not say its gradient`);
  const parts = [
    `#### ${op.name}`,
    symbol ? code(source.signature(symbol)) : 'Run by `Optimizer`; no function of its own.',
    `**${doc.equation}**`,
    tensors.join('\n'),
    `Gradient: ${gradient}`,
    await scoped(() => Promise.resolve(kernels(op, doc.example))),
    await scoped(() => printed(op, doc.example)),
    doc.refused ? `Refused:\n\n${scoped(() => doc.refused?.map(errorOf).join('\n'))}` : 'Every shape is taken.',
  ];
  return parts.join('\n\n');
}

// ---- The page --------------------------------------------------------------------------------------------------------

const ENTRIES = ['src/node.ts', 'src/web.ts'];
const OPS_FILE = 'src/autograd/ops/index.ts';

const OPENING = `# API

Made by \`npx tsx scripts/api_docs.ts\` from the op table and the docstrings of the source: do not edit. The examples were run.

\`\`\`ts
import { apply, full, OPS, openGpu, ops, tensor, zeros } from 'glimpse';
\`\`\`

In Node and in browsers \`glimpse\` exports the same engine, each with its own \`openGpu\`. Only Node has what reads files.
Programs in TypeScript get its types.

What holds for every op:

- Tensors are dense and row-major, of at most 6 axes. Types are f32, u32 and i32; gradients are f32.
- An op returns new tensors on the device of its first input. Nothing waits until a value is read.
- A GlimpseError says so when an input has another type than the table names, or is used after \`dispose()\`.
- A ShapeError names the op and the shapes that do not fit.
- A GpuError names the operation at which the device failed: memory, limits, a lost device.
`;

/** The whole page. It needs an open device. */
export async function apiPage(): Promise<string> {
  const source = new Source(ENTRIES);
  const opExports = source.exportsOf(OPS_FILE);
  const functions = new Map(opExports.map(({ symbol }) => [symbol.name, symbol]));
  const isFunction = ({ symbol }: { symbol: ts.Symbol }) => ts.isFunctionDeclaration(declaration(symbol)) || ts.isVariableDeclaration(declaration(symbol));
  const sections = SECTIONS.map(([title]) => ({ title, texts: [] as string[] }));
  for (const each of source.all) {
    const at = SECTIONS.findIndex(([, files]) => files.test(each.file));
    if (at < 0) throw new Error(`no section of the page holds ${each.symbol.name} of ${each.file}`);
    sections[at].texts.push(described(source, each));
  }
  const groups = new Map<string, string[]>();
  const fileOf = await opFiles();
  for (const op of OPS) {
    const title = GROUPS[fileOf.get(op) ?? ''];
    if (!title) throw new Error(`no group of the page holds ${op.name}`);
    groups.set(title, [...(groups.get(title) ?? []), await opText(op, source, functions)]);
  }
  const documented = new Set(OPS.flatMap(({ doc }) => [...(doc?.example.matchAll(/^ops\.(\w+)\(/g) ?? [])].map(([, name]) => name)));
  const others = opExports.filter((each) => isFunction(each) && each.symbol.name !== 'OPS' && !documented.has(each.symbol.name));
  const types = opExports.filter((each) => !isFunction(each));
  const inOps = (each: { symbol: ts.Symbol; file: string }) => described(source, each).replace(/^###/, '####');
  const contents = [...groups.keys()].map((title) => `[${title}](#${title.toLowerCase().replace(/[^\w ]/g, '').replace(/ /g, '-')})`).join(' · ');
  return `${[
    OPENING.trimEnd(),
    `Ops: ${contents}. Else: ${sections.map(({ title }) => `[${title}](#${title.toLowerCase().replace(/,/g, '').replace(/ /g, '-')})`).join(' · ')}.`,
    '## Ops',
    "`entry(name)` stands for `OPS.find((op) => op.name === name)`: updates are no functions of `ops`. Functions of `ops` take and return tensors.",
    ...[...groups].flatMap(([title, texts]) => [`### ${title}`, ...texts]),
    '### Made of other ops',
    ...others.map(inOps),
    '### Types of options',
    ...types.map(inOps),
    ...sections.flatMap(({ title, texts }) => [`## ${title}`, ...texts]),
  ].join('\n\n')}\n`;
}

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

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const gpu = await openGpu();
  writeFileSync(API_PAGE, await apiPage());
  await gpu.close();
}
