/** `glimpse profile`: rows sum to the total, calls equal dispatches, and every kernel has a cost. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { OPS } from '../src/autograd/ops/index.ts';
import { apply } from '../src/autograd/tape.ts';
import { newKernelText } from '../src/cli/new_kernel.ts';
import type { Dispatch } from '../src/gpu/recorder.ts';
import { COSTED, costOf } from '../src/kernels/costs.ts';
import { FAMILIES } from '../src/kernels/families.ts';
import type { StepProfile } from '../src/study/profile.ts';
import { full, scope, tensor } from '../src/tensor/tensor.ts';
import { captionerRun } from './captioner_run.ts';
import { glimpse, temporaryFolder, useGpu } from './support.ts';

const folder = temporaryFolder();
const made = captionerRun(folder);
const device = useGpu();

test('every shader has a cost', () => {
  const shaders = readdirSync(new URL('../src/kernels/wgsl', import.meta.url)).map((name) => name.replace('.wgsl', ''));
  expect([...COSTED].sort()).toEqual(shaders.sort());
});

test('what a dispatch costs comes from its own parameters, and is that of the op where one kernel does it all', () => {
  using _s = scope();
  const seen: Dispatch[] = [];
  device.gpu.trace = (dispatch) => seen.push(dispatch);
  try {
    for (const [name, ratio] of [
      ['matmul', [1, 1.2]], // an operand that batches share is read again for each
      ['softmax', [0.9, 1.1]],
      ['conv2d', [0.9, 3]],
      ['additiveAttention', [0.9, 1.1]],
      ['lstmCell', [0.8, 1.7]],
      ['adam', [0.6, 1.4]],
    ] as const) {
      const op = OPS.find((each) => each.name === name);
      if (!op) throw new Error(`no op ${name}`);
      for (const c of op.cases.filter(({ shapes }) => shapes.every((shape) => shape.every((extent) => extent > 0)))) {
        seen.length = 0;
        const inputs = c.shapes.map((shape, i) =>
          op.inputTypes?.[i] === 'u32' ? tensor(new Uint32Array(shape.reduce((a, b) => a * b, 1)), shape) : full(shape, 0.5),
        );
        const outputs = apply(op, inputs, c.attrs);
        const costs = seen.map((dispatch) => costOf(dispatch));
        expect(costs, `${name} ${c.name}`).not.toContain(null);
        const bytes = costs.reduce((sum, cost) => sum + (cost?.bytes ?? 0), 0);
        const expected = op.cost(
          c.shapes,
          outputs.map(({ shape }) => shape),
          c.attrs,
        );
        if (seen.length !== 1) continue;
        expect(bytes / expected.bytes, `${name} ${c.name}`).toBeGreaterThan(ratio[0] * 0.5);
        expect(bytes / expected.bytes, `${name} ${c.name}`).toBeLessThan(ratio[1] * 2);
        if (name === 'matmul') expect(costs[0]?.flops, c.name).toBe(expected.flops);
      }
    }
  } finally {
    device.gpu.trace = null;
  }
});

test('a step of 4 pictures and 6 words: rows sum to the total, calls equal dispatches, 5T + 5T + 6 products in the recurrent op', async () => {
  const chrome = join(folder, 'chrome.json');
  const { code, stdout } = await glimpse('profile', 'train-step', '--json', '--chrome', chrome);
  expect(code).toBe(0);
  const profile = JSON.parse(stdout) as StepProfile;
  const kernels = profile.rows.filter(({ kind }) => kind === 'kernel');
  expect(kernels.reduce((sum, { calls }) => sum + calls, 0)).toBe(profile.dispatches);
  expect(profile.rows.reduce((sum, { totalMs }) => sum + totalMs, 0) / profile.totalMs).toBeCloseTo(1, 2);
  expect(profile.rows.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 6);
  const [T, products] = [6, kernels.filter(({ kernel, label }) => kernel.startsWith('matmul') && label.includes('attentionLstm'))];
  expect(products.reduce((sum, { calls }) => sum + calls, 0)).toBe(5 * T + 5 * T + 6);
  for (const { kernel, flops, bytes, totalMs, roofShare } of kernels) {
    expect(bytes, kernel).toBeGreaterThan(0);
    expect(totalMs, kernel).toBeGreaterThan(0);
    expect(roofShare, kernel).toBeGreaterThan(0);
    if (kernel.startsWith('matmul')) expect(flops, kernel).toBeGreaterThan(0);
  }
  for (const kind of ['copy', 'texels', 'clear', 'upload']) expect(profile.rows.map((row) => row.kind)).toContain(kind);
  expect(profile.javascriptMs).toBeLessThan(profile.wallMs);
  // The trace: every span has its operation with shapes, its version and the step of its loop.
  const { traceEvents } = JSON.parse(readFileSync(chrome, 'utf8'));
  expect(traceEvents.filter(({ cat }: { cat: string }) => cat === 'kernel')).toHaveLength(profile.dispatches);
  const cells = traceEvents.filter(({ args }: { args: { label: string } }) => args.label === 'attentionLstm [6,4]: h1, c1 = cell(xe + p, c1)');
  expect(cells.map(({ args }: { args: { step: number } }) => args.step)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(cells[0].args.shapes).toMatchObject({ rows: 4, hidden: 512 });
  const back = traceEvents.filter(({ args }: { args: { label: string } }) => args.label === 'gradient of attentionLstm [6,4]: dp, dc1');
  expect(back.map(({ args }: { args: { step: number } }) => args.step)).toEqual([6, 5, 4, 3, 2, 1]);
  for (const { name, args } of traceEvents)
    expect(Object.keys(args), name).toEqual(['label', 'family', 'version', 'step', 'workgroups', 'shapes', 'flops', 'bytes']);
}, 60_000);

test('several captions of a picture are packed: the last step computes the longest ones only', async () => {
  const { stdout } = await glimpse('profile', 'train-step', '--pictures', '2', '--captions', '4', '--words', '4', '--json', '--quiet');
  const { rows } = JSON.parse(stdout) as StepProfile;
  const cells = rows.find(({ label }) => label === 'attentionLstm [4,8]: h1, c1 = cell(xe + p, c1)');
  expect(cells?.calls).toBe(4);
  expect(cells?.bytes).toBe(4 * 15 * 512 * (8 + 8 + 6 + 6)); // captions of 4, 4, 3 and 2 words, of each length two; 3 is rounded up
});

test('greedy decoding, a run, and a picture of it; a shader of the user is a version of its own', async () => {
  const { run, images } = await made.trained();
  const shader = join(folder, 'cell.wgsl');
  writeFileSync(shader, newKernelText(FAMILIES.lstm_cell, 'invocation', shader));
  for (const what of [
    ['greedy', '--pictures', '2', '--words', '3'],
    [run, '--pictures', '2', '--words', '3'],
    [run, join(images, '0.jpg')],
  ]) {
    const { code, stdout } = await glimpse('profile', ...what, '--shader', `lstm_cell=${shader}`, '--json', '--quiet');
    expect(code).toBe(0);
    const { rows, dispatches } = JSON.parse(stdout) as StepProfile;
    const kernels = rows.filter(({ kind }) => kind === 'kernel');
    expect(kernels.reduce((sum, { calls }) => sum + calls, 0)).toBe(dispatches);
    const cells = kernels.filter(({ version }) => version === `user:${shader}`);
    expect(cells.reduce((sum, { calls }) => sum + calls, 0)).toBeGreaterThan(0);
    expect(cells[0].bytes).toBeGreaterThan(0);
  }
  const text = await glimpse('profile', 'greedy', '--pictures', '1', '--words', '2', '--quiet');
  expect(text.stdout).toMatch(/kernel +calls +GPU ms +% +GFLOP\/s +GB\/s % roof {2}operation/);
  expect(text.stdout).toMatch(/sum of all rows [\d.]+ ms, .* dispatches\na step without the profiler: [\d.]+ ms; JavaScript records it in [\d.]+ ms \(\d+ %\)/);
});

test.each([
  [['nothing'], 2, 'is neither train-step nor greedy, nor a run'],
  [['greedy', 'a.jpg'], 2, 'greedy takes no picture'],
  [['greedy', '--captions', '2'], 2, '--captions belongs to train-step'],
])('%j is refused', async (args, code, message) => {
  expect(await glimpse('profile', ...args)).toMatchObject({ code, stderr: expect.stringContaining(message) });
});
