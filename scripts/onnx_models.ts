/**
 * Runs models with their test data here and in onnxruntime's CPU backend, and writes a table of models in docs/onnx.md:
 *
 *     python3 scripts/torchvision_onnx.py models
 *     npx tsx scripts/onnx_models.ts models
 *
 *     python3 scripts/timm_onnx.py encoders
 *     npx tsx scripts/onnx_models.ts encoders timm
 *
 * Errors are the largest difference from PyTorch's outputs, as a share of the largest number of an output. The table of timm has no times.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { noGrad } from '../src/autograd/tape.ts';
import { openFile } from '../src/data/file_source.ts';
import { readValueFile } from '../src/model/onnx/proto.ts';
import { OnnxModel } from '../src/model/onnx/run.ts';
import { openGpu } from '../src/node.ts';
import { scope, type Tensor, tensor } from '../src/tensor/tensor.ts';
import { withPart } from './page_part.ts';
import { oracle } from './third_party.js';

interface Ort {
  InferenceSession: { create(path: string, options: object): Promise<{ run(feeds: object): Promise<Record<string, { data: Float32Array }>> }> };
  Tensor: new (type: string, data: Float32Array, shape: readonly number[]) => object;
}

/** Timed runs of each model, and the lines in docs/onnx.md that its table stands between. */
const TABLES = {
  torchvision: { runs: 5, first: '<!-- made by scripts/onnx_models.ts: do not edit -->', last: '<!-- end of the models -->' },
  timm: { runs: 0, first: '<!-- made by scripts/onnx_models.ts timm: do not edit -->', last: '<!-- end of the encoders -->' },
};

const [folder, chosen = 'torchvision'] = process.argv.slice(2);
const table = Object.hasOwn(TABLES, chosen) ? TABLES[chosen as keyof typeof TABLES] : null;
if (!folder || !table) {
  process.stderr.write(`usage: npx tsx scripts/onnx_models.ts FOLDER [${Object.keys(TABLES).join(' | ')}]\n`);
  process.exit(2);
}
const ort = oracle('onnxruntime-node') as Ort | null;
const gpu = await openGpu();

function floats(path: string): { shape: number[]; data: Float32Array } {
  const { value } = readValueFile(openFile(path), 'float');
  if (value.kind !== 'float') throw new Error(`${path} holds no floats`);
  return { shape: value.shape, data: Float32Array.from(value.data) };
}

/** The largest difference as a share of the largest expected number. */
function error(came: ArrayLike<number>, expected: Float32Array): number {
  let [most, largest] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    most = Math.max(most, Math.abs(came[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return most / largest;
}

const rows: string[] = [];
for (const name of readdirSync(folder).sort()) {
  const path = join(folder, name, 'model.onnx');
  const data = join(folder, name, 'test_data_set_0');
  const x = floats(join(data, 'input_0.pb'));
  const expected = readdirSync(data).flatMap((file) => (file.startsWith('output_') ? [floats(join(data, file)).data] : []));
  const largest = (outputs: ArrayLike<number>[]) => Math.max(...outputs.map((came, i) => error(came, expected[i])));
  const model = OnnxModel.load(openFile(path));
  const [{ name: input }] = model.graph.inputs;
  const times: number[] = [];
  let ours = Number.NaN;
  for (let i = 0; i <= table.runs; i++) {
    using _run = scope();
    const start = performance.now();
    const outputs = noGrad(() => model.run({ [input]: tensor(x.data, x.shape) })) as Tensor[];
    const values = await Promise.all(outputs.map((output) => output.data()));
    if (i > 0) times.push(performance.now() - start); // the first compiles
    ours = largest(values);
  }
  const { nodes, outputs } = model.graph;
  model.dispose();
  let theirs = '';
  if (ort) {
    const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3 });
    const made = await session.run({ [input]: new ort.Tensor('float32', x.data, x.shape) });
    theirs = largest(outputs.map((output) => made[output].data)).toExponential(1);
  }
  const median = times.sort((a, b) => a - b)[Math.floor(table.runs / 2)];
  const cells = [name, nodes.length, ours.toExponential(1), theirs, ...(table.runs > 0 ? [median.toFixed(0)] : [])];
  rows.push(`| ${cells.join(' | ')} |`);
  process.stderr.write(`${rows.at(-1)}\n`);
}

const adapter = `Adapter: ${gpu.description}${gpu.software ? ', a software adapter' : ''}.`;
const text = [
  table.runs > 0 ? `${adapter} One picture at a time, the median of ${table.runs} runs.` : adapter,
  '',
  ...(table.runs > 0
    ? ['| model | nodes that run | error | error of onnxruntime | ms |', '|---|---:|---:|---:|---:|']
    : ['| model | nodes that run | error | error of onnxruntime |', '|---|---:|---:|---:|']),
  ...rows,
].join('\n');
const page = new URL('../docs/onnx.md', import.meta.url);
writeFileSync(page, withPart(readFileSync(page, 'utf8'), table.first, table.last, text));
await gpu.close();
process.exit(0);
