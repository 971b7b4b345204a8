/**
 * The mean of several checkpoints' weights as one model (Izmailov and others 2018, "Averaging weights leads to wider optima"). Late
 * checkpoints of one run lie around a minimum, and their mean lies nearer to it. It costs no more to decode than any one of them.
 */
import { sameWords } from '../../data/words.ts';
import { GlimpseError } from '../../errors.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import { type Checkpoint, flatFields } from './checkpoint.ts';
import { BUILT_BY } from './options.ts';
import { weightsHash } from './weights_hash.ts';

type Named = ReadonlyMap<string, NamedArray>;

/** What two models must have in common, as text by name. */
function builtAs({ config, encoder }: Checkpoint): Map<string, string> {
  const { options, sizes, words } = config;
  const built = Object.fromEntries(BUILT_BY.map((name) => [name, options[name]]));
  const { tuned: _, path: _path, ...network } = encoder;
  return new Map(flatFields({ ...built, sizes, words, encoder: network }));
}

function mean(all: readonly Named[], names: readonly string[], what: string): Map<string, NamedArray> {
  const same = (each: Named) => names.length === each.size && names.every((name) => each.get(name)?.shape.join() === all[0].get(name)?.shape.join());
  const other = all.findIndex((each) => !same(each));
  if (other >= 0) throw new GlimpseError(`models 1 and ${other + 1} have no mean: their ${what} have other names or shapes`);
  return new Map(
    names.map((name) => {
      const arrays = all.map((each) => each.get(name) as NamedArray);
      const data = arrays[0].data.map((_, i) => arrays.reduce((sum, { data: values }) => sum + values[i], 0) / arrays.length);
      return [name, { shape: arrays[0].shape, data }];
    }),
  );
}

/**
 * The mean of the weights of models that are built alike. The rest is that of the last one; it has no moments, since it is for captions
 * and for new runs to start from. Throws a GlimpseError that names two models and what differs between them.
 */
export function averaged(models: readonly Checkpoint[]): Checkpoint {
  const last = models.at(-1);
  if (!last || models.length < 2) throw new GlimpseError(`a mean is taken of two models at least, got ${models.length}`);
  const first = builtAs(models[0]);
  for (const [i, model] of models.entries()) {
    const pair = `models 1 and ${i + 1} have no mean`;
    for (const [name, value] of builtAs(model)) if (value !== first.get(name)) throw new GlimpseError(`${pair}: ${name} is ${first.get(name)} and ${value}`);
    if (!sameWords(model.vocabulary, models[0].vocabulary)) throw new GlimpseError(`${pair}: their words differ`);
  }
  const weights = models.map((model) => model.weights);
  const tuned = models.map((model) => model.encoderWeights);
  const encoderWeights = mean(tuned, [...tuned[0].keys()], 'trained weights of the encoder');
  return {
    ...last,
    weights: mean(weights, [...weights[0].keys()], 'weights'),
    encoderWeights,
    encoder: { ...last.encoder, tuned: encoderWeights.size > 0 ? weightsHash(encoderWeights) : null },
    moments: new Map(),
  };
}
