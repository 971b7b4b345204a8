/**
 * What the site shows where there is no device, recorded here: captions of scenes with their maps, and the kernels that each op and its
 * gradient run. A test makes both again and compares.
 *
 *   npx tsx scripts/site_records.ts        writes site/data/recorded.json and site/data/kernels.json
 */
import { fileURLToPath } from 'node:url';
import { drawn } from '../src/autograd/draw.ts';
import type { Op } from '../src/autograd/op.ts';
import * as ops from '../src/autograd/ops/index.ts';
import { OPS } from '../src/autograd/ops/index.ts';
import { apply, backward, variable } from '../src/autograd/tape.ts';
import { writeFileAtomic } from '../src/data/atomic_file.ts';
import { readSafetensors } from '../src/data/safetensors.ts';
import type { Gpu } from '../src/gpu/gpu.ts';
import { DemoModel } from '../src/model/demo/demo.ts';
import { unseenScene } from '../src/model/demo/scenes.ts';
import type { NamedArray } from '../src/nn/parameters.ts';
import { openGpu } from '../src/platform/node/open.ts';
import { weightBytes } from '../src/plot/glow.ts';
import { Random } from '../src/random.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';

const DATA = new URL('../site/data/', import.meta.url);
const SEED = 7;
const SCENES = 8;

/** Kernels of an op: a family by its name, and shaders that belong to none. */
export interface OpKernels {
  forward: string[];
  gradient: string[];
}

/** What the cases of an op dispatch, as `family:NAME` or `shader:NAME`. */
export async function kernelsOf(gpu: Gpu, op: Op): Promise<OpKernels> {
  const found: OpKernels = { forward: [], gradient: [] };
  for (const c of op.cases) {
    using _case = scope();
    const random = new Random(1, op.name);
    const inputs = c.shapes.map((shape, i) => {
      const dtype = op.inputTypes?.[i] ?? 'f32';
      const made = tensor(Array.from(drawn(c.draw?.[i] ?? 'normal', shape, random).data), shape, dtype);
      return dtype === 'f32' ? variable(made) : made;
    });
    const into = (list: string[]) => {
      let isFirst = list === found.gradient;
      gpu.trace = ({ kernel, choice, label }) => {
        const ofLoss = isFirst && label.startsWith('broadcastTo'); // the gradient of the sum that makes a loss
        isFirst = false;
        if (ofLoss) return;
        const name = choice ? `family:${choice.family}` : `shader:${kernel.name}`;
        if (!list.includes(name)) list.push(name);
      };
    };
    try {
      into(found.forward);
      const outputs = apply(op, inputs, c.attrs);
      gpu.trace = null;
      if (typeof op.backward === 'function') {
        const loss = ops.sum(outputs[0]);
        into(found.gradient);
        backward(loss);
      }
    } finally {
      gpu.trace = null;
    }
    await gpu.idle();
  }
  return found;
}

export async function allKernels(gpu: Gpu): Promise<Record<string, OpKernels>> {
  const all: Record<string, OpKernels> = {};
  for (const op of OPS) all[op.name] = await kernelsOf(gpu, op);
  return all;
}

/** Scenes that the site's captioner described, with maps as bytes. */
export async function describedScenes(): Promise<{ index: number; words: string[]; wordProbs: number[]; exact: boolean; alpha: string[] }[]> {
  const model = new DemoModel(0);
  model.load(readSafetensors(fileURLToPath(new URL('scenes.safetensors', DATA))).tensors as ReadonlyMap<string, NamedArray>);
  const described = await model.describe(Array.from({ length: SCENES }, (_, i) => unseenScene(SEED, i)));
  model.dispose();
  return described.map(({ words, wordProbs, exact, alpha }, index) => ({
    ...{ index, words, exact, wordProbs: wordProbs.map((p) => Number(p.toFixed(4))) },
    alpha: alpha.map((map) => Buffer.from(weightBytes(map)).toString('base64')),
  }));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const gpu = await openGpu();
  const recorded = { adapter: gpu.description, date: new Date().toISOString().slice(0, 10), seed: SEED, scenes: await describedScenes() };
  writeFileAtomic(fileURLToPath(new URL('recorded.json', DATA)), [`${JSON.stringify(recorded)}\n`]);
  writeFileAtomic(fileURLToPath(new URL('kernels.json', DATA)), [`${JSON.stringify(await allKernels(gpu))}\n`]);
  await gpu.close();
  process.exit(0);
}
