/**
 * Checks the whole captioner against a golden that PyTorch made in float64: logits, attention, both losses, every gradient, and
 * the weights after 1 and 5 Adam steps. It compares relative errors in the norm of a tensor, or absolute ones where the true
 * value is 0.
 */
import { z } from 'zod';
import type { CaseResult } from '../../autograd/check.ts';
import { backward, gradOf } from '../../autograd/tape.ts';
import { readSafetensors, type StoredTensor } from '../../data/safetensors.ts';
import { parseJson } from '../../data/validation.ts';
import { PAD } from '../../data/words.ts';
import { FileError } from '../../errors.ts';
import { Optimizer } from '../../nn/optimizer.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import { scope, type Tensor, tensor } from '../../tensor/tensor.ts';
import { Captioner, type CaptionerSizes, PRESETS, parameterTable } from './captioner.ts';

const RELATIVE = 2e-4;
const ABSOLUTE = 1e-6;
/** The goldens' optimizer: Adam at Keras' default rate. */
const RATE = 1e-3;

const Scalars = z.object({
  loss_token_mean: z.number(),
  loss_seed_sum: z.number(),
  loss_seed_printed: z.number(),
  grad_norm_token_mean: z.number(),
  grad_norm_seed_sum: z.number(),
  adam_losses_token_mean: z.array(z.number()),
  dims: z.record(z.string(), z.number().int().positive()),
});

/** A golden, read and checked: its scalars, its tensors by name, and the batch that went in, time-major as the engine has it. */
export interface Golden {
  scalars: z.infer<typeof Scalars>;
  sizes: CaptionerSizes;
  /** Throws a FileError if there is no tensor of this name. */
  get(name: string): StoredTensor;
  weights: ReadonlyMap<string, NamedArray>;
  /** [T, B] */
  ids: Uint32Array;
  targets: Uint32Array;
  /** Words that count in the loss. */
  counted: number;
  batch: number;
  steps: number;
}

/** Throws a FileError for a file that is no golden of the captioner. */
export function readGolden(path: string): Golden {
  const { metadata, tensors } = readSafetensors(path);
  const scalars = parseJson(path, metadata.scalars ?? '{}', Scalars, 'is no golden of the captioner');
  const get = (name: string): StoredTensor => {
    const found = tensors.get(name);
    if (!found) throw new FileError(path, `has no tensor "${name}"`);
    return found;
  };
  const { dims: d } = scalars;
  const sizes: CaptionerSizes = { features: d.F, regions: d.P, project: d.D, attention: d.A, hidden: d.H, embedding: d.E, vocabulary: d.V };
  const weights = new Map(parameterTable(sizes, PRESETS.basic).map(([name]) => [name, get(`w.${name}`) as NamedArray]));
  const { data: tokens, shape } = get('in.tokens');
  const [batch, length] = shape;
  const steps = length - 1;
  const timeMajor = (offset: number) => Uint32Array.from({ length: steps * batch }, (_, i) => tokens[(i % batch) * length + Math.floor(i / batch) + offset]);
  const targets = timeMajor(1);
  return { scalars, sizes, get, weights, ids: timeMajor(0), targets, counted: targets.filter((id) => id !== PAD).length, batch, steps };
}

/** How far numbers are from what they must be: in the norm, relative unless the true values vanish; and the largest difference. */
export function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): { relative: number; maxAbs: number; vanishes: boolean } {
  let [difference, norm, maxAbs] = [0, 0, 0];
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i] - expected[i]);
    difference += error * error;
    norm += expected[i] * expected[i];
    maxAbs = Math.max(maxAbs, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
  }
  const vanishes = Math.sqrt(norm) <= ABSOLUTE;
  const relative = vanishes ? Math.sqrt(difference) : Math.sqrt(difference / norm);
  return { relative: Number.isNaN(relative) ? Number.POSITIVE_INFINITY : relative, maxAbs, vanishes };
}

/** [T, B, width] → [B, T, width], as goldens have it. */
export function batchMajor(data: ArrayLike<number>, { steps, batch }: Pick<Golden, 'steps' | 'batch'>, width: number): Float32Array {
  return Float32Array.from(
    { length: data.length },
    (_, i) => data[((Math.floor(i / width) % steps) * batch + Math.floor(i / width / steps)) * width + (i % width)],
  );
}

export async function checkGolden(path: string): Promise<CaseResult[]> {
  const read = readGolden(path);
  const { scalars: golden, sizes, get, weights, batch, steps, counted, targets: targetIds } = read;
  const names = [...weights.keys()];
  const results: CaseResult[] = [];
  const compare = (name: string, actual: ArrayLike<number>, expected: ArrayLike<number>) => {
    const { relative, maxAbs, vanishes } = distance(actual, expected);
    const maxRel = vanishes ? 0 : relative;
    const ok = actual.length === expected.length && (vanishes ? maxAbs <= ABSOLUTE : maxRel <= RELATIVE);
    results.push({
      op: 'captioner',
      family: null,
      version: 'basic',
      case: name,
      status: ok ? 'passed' : 'failed',
      maxAbs,
      maxRel,
    });
  };

  using _all = scope();
  const model = Captioner.fromWeights(sizes, PRESETS.basic, weights);
  const features = tensor(get('in.features').data, get('in.features').shape);
  const ids = tensor(read.ids, [steps, batch]);
  const targets = tensor(targetIds, [steps, batch]);
  const weightsOf = (each: number) =>
    tensor(
      Float32Array.from(targetIds, (id) => (id === 0 ? 0 : each)),
      [steps, batch],
    );
  const objectives = { token_mean: weightsOf(1 / counted), seed_sum: weightsOf(1 / batch) };
  const optimizer = new Optimizer(model.parameters, { kind: 'adam', rate: RATE });
  const forward = model.forward(features, ids);
  compare('logits', batchMajor(await forward.logits.data(), read, sizes.vocabulary), get('logits').data);
  compare('alpha', batchMajor(await forward.alpha.data(), read, sizes.regions), get('alpha').data);
  for (const [objective, rowWeights] of Object.entries(objectives)) {
    optimizer.zeroGrad();
    const { loss } = model.loss(features, ids, targets, rowWeights);
    backward(loss);
    const value = await loss.item();
    const expected = objective === 'token_mean' ? golden.loss_token_mean : golden.loss_seed_sum;
    compare(`loss_${objective}`, [value], [expected]);
    if (objective === 'seed_sum') compare('loss_seed_printed', [value / (steps + 1)], [golden.loss_seed_printed]);
    let squares = 0;
    for (const name of names) {
      const gradient = await (gradOf(model.parameters.get(name)) as Tensor).data();
      for (const g of gradient) squares += g * g;
      compare(`grad_${objective}.${name}`, gradient, get(`grad_${objective}.${name}`).data);
    }
    compare(`grad_norm_${objective}`, [Math.sqrt(squares)], [objective === 'token_mean' ? golden.grad_norm_token_mean : golden.grad_norm_seed_sum]);
  }
  const losses: number[] = [];
  for (let step = 1; step <= golden.adam_losses_token_mean.length; step++) {
    using _step = scope();
    optimizer.zeroGrad();
    const { loss } = model.loss(features, ids, targets, objectives.token_mean);
    backward(loss);
    losses.push(await loss.item());
    optimizer.step();
    if (step !== 1 && step !== 5) continue;
    const after = await model.parameters.read();
    for (const name of names) compare(`adam${step}.${name}`, (after.get(name) as { data: Float32Array }).data, get(`adam${step}.${name}`).data);
  }
  compare('adam_losses_token_mean', losses, golden.adam_losses_token_mean);
  optimizer.dispose();
  model.dispose();
  return results;
}
