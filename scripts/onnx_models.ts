/**
 * Runs models with their test data here and in onnxruntime's CPU backend, and writes the table of models in docs/onnx.md:
 *
 *     python3 scripts/torchvision_onnx.py models
 *     npx tsx scripts/onnx_models.ts models
 *
 * Errors are the largest difference from PyTorch's output, as a share of its largest number.
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

const RUNS = 5;
const [FIRST, LAST] = ['<!-- made by scripts/onnx_models.ts: do not edit -->', '<!-- end of the models -->'];

const folder = process.argv[2];
if (!folder) {
  process.stderr.write('usage: npx tsx scripts/onnx_models.ts FOLDER\n');
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
  const [x, y] = ['input', 'output'].map((kind) => floats(join(folder, name, 'test_data_set_0', `${kind}_0.pb`)));
  const model = OnnxModel.load(openFile(path));
  const times: number[] = [];
  let ours = Number.NaN;
  for (let i = 0; i <= RUNS; i++) {
    using _run = scope();
    const start = performance.now();
    const [out] = noGrad(() => model.run({ x: tensor(x.data, x.shape) })) as Tensor[];
    const values = await out.data();
    if (i > 0) times.push(performance.now() - start); // the first compiles
    ours = error(values, y.data);
  }
  const nodes = model.graph.nodes.length;
  model.dispose();
  const theirs =
    ort &&
    error((await (await ort.InferenceSession.create(path, { logSeverityLevel: 3 })).run({ x: new ort.Tensor('float32', x.data, x.shape) })).y.data, y.data);
  const median = times.sort((a, b) => a - b)[Math.floor(RUNS / 2)];
  rows.push(`| ${name} | ${nodes} | ${ours.toExponential(1)} | ${theirs === null ? '' : theirs.toExponential(1)} | ${median.toFixed(0)} |`);
  process.stderr.write(`${rows.at(-1)}\n`);
}

const table = [
  `Adapter: ${gpu.description}${gpu.software ? ', a software adapter' : ''}. One picture at a time, the median of ${RUNS} runs.`,
  '',
  '| model | nodes that run | error | error of onnxruntime | ms |',
  '|---|---:|---:|---:|---:|',
  ...rows,
].join('\n');
const page = new URL('../docs/onnx.md', import.meta.url);
writeFileSync(page, withPart(readFileSync(page, 'utf8'), FIRST, LAST, table));
await gpu.close();
process.exit(0);
