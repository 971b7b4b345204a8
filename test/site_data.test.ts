/** What the site brings along is what the engine makes now: recorded captions, kernels of each op, results that were sent. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseReport } from '../bench/record.ts';
import { isTimed } from '../bench/rows.ts';
import { allKernels, describedScenes } from '../scripts/site_records.ts';
import { traceScene } from '../site/engine/jobs/trace.ts';
import { readSafetensors } from '../src/data/safetensors.ts';
import { DEMO_FORMAT, DemoModel } from '../src/model/demo/demo.ts';
import { unseenScene } from '../src/model/demo/scenes.ts';
import type { NamedArray } from '../src/nn/parameters.ts';
import { useGpu } from './support.ts';

const device = useGpu();
const DATA = join(import.meta.dirname, '../site/data');
const WEIGHTS = join(DATA, 'scenes.safetensors');
const json = (name: string) => JSON.parse(readFileSync(join(DATA, name), 'utf8'));

test('site/data/kernels.json: npx tsx scripts/site_records.ts', async () => {
  const now = await allKernels(device.gpu);
  const kept: typeof now = json('kernels.json');
  expect(Object.keys(kept)).toEqual(Object.keys(now));
  // Which shaders besides a family's run may depend on the adapter's tuning; the families do not.
  const families = (names: readonly string[]) => names.filter((name) => name.startsWith('family:')).sort();
  for (const [op, { forward, gradient }] of Object.entries(now)) {
    expect(families(kept[op].forward), op).toEqual(families(forward));
    expect(families(kept[op].gradient), op).toEqual(families(gradient));
  }
});

test('site/data/recorded.json: the words are those of the weights that the site brings', async () => {
  const now = await describedScenes();
  expect(json('recorded.json').scenes.map(({ words }: { words: string[] }) => words)).toEqual(now.map(({ words }) => words));
  expect(now.filter(({ exact }) => exact).length).toBeGreaterThanOrEqual(7);
});

test('weights of the demo: saved with the running statistics, read again, refused in part', async () => {
  const { metadata, tensors } = readSafetensors(WEIGHTS);
  expect(metadata).toMatchObject({ format: DEMO_FORMAT, seed: '7', scenes: '3072' });
  expect([...tensors.keys()]).toEqual(expect.arrayContaining(['conv1_running_mean', 'conv3_running_variance', 'v', 'lstm2_u']));
  const model = new DemoModel(0);
  model.load(tensors as ReadonlyMap<string, NamedArray>);
  const again = await model.weights();
  expect([...again.keys()].sort()).toEqual([...tensors.keys()].sort());
  for (const [name, { data }] of again) expect(data, name).toEqual(tensors.get(name)?.data);
  const part = new Map(tensors as ReadonlyMap<string, NamedArray>);
  part.delete('conv2_running_mean');
  expect(() => model.load(part)).toThrow(/conv2_running_mean/);
  model.dispose();
});

test('a trace of a model whose parameters share a buffer has every equation', async () => {
  const model = new DemoModel(0);
  model.load(readSafetensors(WEIGHTS).tensors as ReadonlyMap<string, NamedArray>);
  const { trace } = await traceScene(device.gpu, model, unseenScene(7, 0));
  const keys = new Set(trace.nodes.map(({ key }) => key));
  for (const key of ['a', 'K', 'Emb', 'xe', 'logits', 'L', 'dWe', 'dW1', 'dWE', 'dWo', 'dE']) expect(keys.has(key), key).toBe(true);
  expect(trace.wrong).toEqual([]);
  model.dispose();
});

const results = join(import.meta.dirname, '../bench/results');
test.each(readdirSync(results).filter((name) => name.endsWith('.json')))('bench/results/%s is a result of `glimpse bench --json`', (name) => {
  const report = parseReport(name, readFileSync(join(results, name), 'utf8'), '');
  expect(report.rows.filter(isTimed).length).toBeGreaterThan(0);
  expect(report.wrong).toEqual([]);
});
