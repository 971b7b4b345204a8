/**
 * The time until a fresh process has captioned one picture, with whatever caches the machine has warm. The words it printed
 * are checked in this process: plain versions of all kernels, and one pass over all words.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { END } from '../src/data/words.ts';
import { GlimpseError } from '../src/errors.ts';
import { Captioner } from '../src/model/captioner/captioner.ts';
import { openEncoderOf } from '../src/model/encoder/encoder.ts';
import { loadCheckpoint, resolveCheckpoint } from '../src/model/training/checkpoint.ts';
import { vocabularyOf } from '../src/model/training/checkpoint_format.ts';
import { PACKAGE } from '../src/platform/node/version.ts';
import { scope, tensor } from '../src/tensor/tensor.ts';
import { FIRST_CAPTION } from './catalog.ts';
import { WrongResult } from './measure.ts';
import { checkWords, withPlainVersions } from './models.ts';
import type { Check } from './reference.ts';
import type { TimedRow } from './rows.ts';
import { summary } from './sampling.ts';

/** Runs of which the first counts as the cold one. */
const RUNS = 6;

async function checkCaption(run: string, picture: string, words: readonly string[]): Promise<Check> {
  const checkpoint = loadCheckpoint(resolveCheckpoint(run));
  const { sizes, options, preset, maxLength } = checkpoint.config;
  const vocabulary = vocabularyOf(checkpoint);
  const tokens = words.map((word) => vocabulary.words.indexOf(word));
  if (tokens.length < maxLength - 1) tokens.push(END); // else the length ran out before it
  const encoder = await openEncoderOf(checkpoint);
  const model = Captioner.fromWeights(sizes, options, checkpoint.weights);
  try {
    const pixels = await encoder.load(picture);
    const { values, regions, width } = await withPlainVersions(() => encoder.features([pixels])); // all is recorded when it returns
    using _check = scope();
    return await checkWords(model, tensor(values, [1, regions, width]), [tokens], preset === 'recommended' ? END : 0);
  } finally {
    model.dispose();
    encoder.dispose();
  }
}

/** `run` is the folder of a trained run, `picture` a file. */
export async function firstCaption(run: string, picture: string, adapter: string | undefined): Promise<TimedRow> {
  const row = { ...FIRST_CAPTION, version: 'model' };
  const program = fileURLToPath(new URL('bin/glimpse.js', PACKAGE));
  const command = [program, 'caption', run, picture, '--json', ...(adapter ? ['--adapter', adapter] : [])];
  const { MESA_SHADER_CACHE_DISABLE: _cold, ...env } = process.env; // the driver's cache is warm, as on a machine in use
  const captions: string[][] = [];
  const times: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now();
    const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: 'utf8', env });
    if (status !== 0) throw new GlimpseError(`the first caption failed: ${stderr.trim()}`);
    times.push(performance.now() - start);
    captions.push(JSON.parse(stdout)[0].tokens);
  }
  const last = captions[RUNS - 1];
  const other = captions.find((each) => each.join(' ') !== last.join(' '));
  if (other) throw new WrongResult(row, `was "${other.join(' ')}" in one process and "${last.join(' ')}" in another`);
  const { against, checked, maxError, wrong } = await checkCaption(run, picture, last);
  if (wrong !== null) throw new WrongResult(row, wrong);
  const nothing = {
    hostMs: null,
    gpuMedianMs: null,
    gflops: null,
    gigabytesPerSecond: null,
    intensity: null,
    roofShare: null,
    roofsMoved: null,
    peakBytes: null,
    peers: [],
  };
  const more = { work: null, includes: 'starting the process', ratio: null };
  return { ...row, ...summary(times.slice(1), times[0]), maxError, checked, checkedAgainst: against, ...nothing, ...more };
}
