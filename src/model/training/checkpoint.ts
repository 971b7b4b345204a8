/**
 * Checkpoints as files (checkpoint_format.ts): written atomically, found in the folder of a run.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ByteSource } from '../../data/bytes.ts';
import { openFile } from '../../data/file_source.ts';
import { writeSafetensors } from '../../data/safetensors.ts';
import { GlimpseError } from '../../errors.ts';
import type { Optimizer } from '../../nn/optimizer.ts';
import type { NamedArray } from '../../nn/parameters.ts';
import type { Captioner } from '../captioner/captioner.ts';
import { type Checkpoint, FORMAT, parseCheckpoint, type TrainingConfig } from './checkpoint_format.ts';

export type { Checkpoint, Progress, SelfCriticalConfig, TrainedOn, TrainingConfig } from './checkpoint_format.ts';

export async function saveCheckpoint(
  path: string,
  model: Captioner,
  optimizers: readonly Optimizer[],
  meta: Pick<Checkpoint, 'config' | 'progress' | 'vocabulary' | 'encoder' | 'encoderWeights' | 'trainedOn'>,
): Promise<void> {
  const tensors = new Map<string, NamedArray>();
  for (const [name, value] of await model.parameters.read()) tensors.set(`weight.${name}`, value);
  for (const [name, value] of meta.encoderWeights) tensors.set(`encoder.${name}`, value);
  for (const optimizer of optimizers) for (const [name, value] of await optimizer.read()) tensors.set(name, value);
  writeSafetensors(path, tensors, metadataOf(meta));
}

function metadataOf({
  config,
  progress,
  vocabulary,
  encoder,
  trainedOn,
}: Omit<Parameters<typeof saveCheckpoint>[3], 'encoderWeights'>): Record<string, string> {
  const said = Object.entries({ config, progress, vocabulary, encoder, trainedOn }).filter(([, value]) => value !== null);
  return { format: FORMAT, ...Object.fromEntries(said.map(([key, value]) => [key, JSON.stringify(value)])) };
}

/** Writes a model as a checkpoint without what only its training needs: the moments of the optimizers. */
export function saveModel(path: string, model: Checkpoint): void {
  const named = (prefix: string, all: ReadonlyMap<string, NamedArray>) => [...all].map(([name, value]) => [`${prefix}.${name}`, value] as const);
  writeSafetensors(path, new Map([...named('weight', model.weights), ...named('encoder', model.encoderWeights)]), metadataOf(model));
}

/** Name of the checkpoint in a folder made by `glimpse export`. */
export const EXPORTED = 'model.safetensors';

/**
 * Reads a checkpoint file. An encoder without a folder lies beside it. Throws a FileError that names the file and the damaged part.
 * `onNote` gets what a reader should know of it.
 */
export function loadCheckpoint(path: string, onNote: (note: string) => void = () => {}): Checkpoint {
  const file = openFile(path);
  try {
    return checkpointFrom(file, onNote);
  } finally {
    file.close();
  }
}

/** As `loadCheckpoint`, from a source whose name is the path of the checkpoint. */
export function checkpointFrom(source: ByteSource, onNote: (note: string) => void = () => {}): Checkpoint {
  const { name: path } = source;
  const checkpoint = parseCheckpoint(source);
  const { encoder } = checkpoint;
  if (/^[^/\\]+$/.test(encoder.path)) encoder.path = join(dirname(path), encoder.path);
  for (const note of checkpoint.notes) onNote(`${path} ${note}`);
  return checkpoint;
}

/** Every field of an object with its value, as "outer.inner" and text. */
export function flatFields(value: unknown, prefix = ''): [string, string][] {
  if (!value || typeof value !== 'object') return [[prefix, String(value)]];
  return Object.entries(value).flatMap(([key, inner]) => flatFields(inner, prefix ? `${prefix}.${key}` : key));
}

/** The fields in which two configurations differ, as "name: value in a, value in b". */
export function differingFields(a: TrainingConfig, b: TrainingConfig): string[] {
  const other = new Map(flatFields(b));
  return flatFields(a).flatMap(([key, value]) => (other.get(key) === value ? [] : [`${key}: ${value}, ${other.get(key)}`]));
}

/** Path of the checkpoint that is written within an epoch and removed at its end. */
export function pausedPath(run: string): string {
  return join(run, 'checkpoints', 'paused.safetensors');
}

export function holdsCheckpoint(run: string): boolean {
  return existsSync(pausedPath(run)) || epochsSaved(run).length > 0;
}

/** The checkpoint from which a run resumes, and its path: the newest of a whole epoch, or one within the epoch after it. */
export function newestCheckpoint(run: string, onNote?: (note: string) => void): { path: string; checkpoint: Checkpoint } | null {
  const epoch = epochsSaved(run).at(-1) ?? 0;
  const load = (path: string) => ({ path, checkpoint: loadCheckpoint(path, onNote) });
  if (existsSync(pausedPath(run))) {
    const paused = load(pausedPath(run));
    if (paused.checkpoint.progress.epoch >= epoch) return paused; // else a kill at the end of an epoch left an old one behind
  }
  return epoch > 0 ? load(checkpointPath(run, epoch)) : null;
}

const NAME = /^epoch-(\d{3,})\.safetensors$/;

export function checkpointPath(run: string, epoch: number): string {
  return join(run, 'checkpoints', `epoch-${String(epoch).padStart(3, '0')}.safetensors`);
}

export function epochsSaved(run: string): number[] {
  const folder = join(run, 'checkpoints');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .flatMap((name) => {
      const match = NAME.exec(name);
      return match ? [Number(match[1])] : [];
    })
    .sort((a, b) => a - b);
}

/**
 * The checkpoint file at a path: the file itself, or that of a folder made by `glimpse export`. Of a run's folder it is the best, or else
 * the newest. Throws if there is none.
 */
export function resolveCheckpoint(path: string): string {
  if (path.endsWith('.safetensors')) return path;
  const exported = join(path, EXPORTED);
  if (existsSync(exported)) return exported;
  const best = join(path, 'checkpoints', 'best.safetensors');
  if (existsSync(best)) return best;
  const epochs = epochsSaved(path);
  if (epochs.length === 0) throw new GlimpseError(`${path} holds no checkpoint; give a .safetensors file or a folder made by \`glimpse train\``);
  return checkpointPath(path, epochs[epochs.length - 1]);
}

/** Removes all but the newest `count` checkpoints of epochs. */
export function pruneCheckpoints(run: string, count: number): void {
  for (const epoch of epochsSaved(run).slice(0, -count)) rmSync(checkpointPath(run, epoch), { force: true });
}
