/**
 * Which version suits which problem on which adapter: a table per adapter, made by `glimpse tune`. Tables for lavapipe,
 * SwiftShader and a generic GPU are committed; one that the user made for this very adapter, in the cache, goes before them
 * as long as its shaders are unchanged. Nothing is ever measured during an ordinary run.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { FileError, messageOf } from '../errors.ts';
import type { Gpu } from '../gpu/device.ts';
import { shaderSource } from '../gpu/shader.ts';
import { cacheFolder } from '../platform/node/embedded_driver.ts';

/** The shaders that a family's versions are made of. */
const SHADERS: Record<string, readonly string[]> = {
  matmul: [
    'matmul_naive',
    'matmul_register',
    'matmul_subgroup',
    'matmul_subgroup_pairs',
    'matmul_workgroup',
    'matmul_subgroup_texels',
    'column_panels',
    'matmul_subgroup_rows',
  ],
  conv2d: ['conv2d_direct', 'im2col', 'im2col_vec4', 'space_to_depth', 'conv2d_subgroup', 'conv2d_subgroup_texels', 'column_panels'],
  reduce: ['reduce', 'reduce_workgroup'],
  softmax: ['softmax', 'softmax_subgroup'],
  cross_entropy: ['cross_entropy', 'cross_entropy_subgroup'],
  argmax_token: ['argmax_token', 'argmax_token_subgroup'],
  top_k: ['top_k'],
  attention: ['additive_attention', 'additive_attention_vec4', 'additive_attention_subgroup'],
};

export const TuningFile = z.object({
  version: z.literal(1),
  adapter: z.string(),
  driver: z.string(),
  date: z.string(),
  /** SHA-256 of each family's shaders, first 16 digits. */
  shaders: z.record(z.string(), z.string()),
  problems: z.array(
    z.object({
      family: z.string(),
      key: z.string(),
      shape: z.string(),
      /** Median milliseconds of every version that agreed with the reference and could run. */
      medianMs: z.record(z.string(), z.number()).optional(),
      /** Fastest first by reasoning, where nothing was measured (the generic GPU); the key `*` stands for every class. */
      order: z.array(z.string()).optional(),
    }),
  ),
});
export type TuningFile = z.infer<typeof TuningFile>;

export interface Tuning {
  /** Where it comes from, for `doctor`. */
  source: string;
  /** Versions by family and problem class, fastest first. */
  order: ReadonlyMap<string, readonly string[]>;
}

export function shaderHash(family: string): string {
  const hash = createHash('sha256');
  for (const file of SHADERS[family]) hash.update(shaderSource(file));
  return hash.digest('hex').slice(0, 16);
}

export function tuningPath(gpu: Gpu): string {
  const name = `${gpu.adapterName} ${gpu.driverName}`.replaceAll(/[^\w.]+/g, '-').slice(0, 120);
  return join(cacheFolder(), 'tuning', `${name}.json`);
}

function read(path: string | URL): TuningFile {
  try {
    return TuningFile.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    throw new FileError(String(path), `is no tuning table (${messageOf(error)}); delete it or run \`glimpse tune\` again`);
  }
}

function ordered(file: TuningFile, fresh: (family: string) => boolean): Map<string, readonly string[]> {
  const byTime = (medianMs: Record<string, number>) => Object.keys(medianMs).sort((a, b) => medianMs[a] - medianMs[b]);
  return new Map(
    file.problems.filter(({ family }) => fresh(family)).map(({ family, key, medianMs = {}, order }) => [`${family} ${key}`, order ?? byTime(medianMs)]),
  );
}

function load(gpu: Gpu): Tuning {
  const kind = /llvmpipe|lavapipe/i.test(gpu.description) ? 'lavapipe' : /swiftshader/i.test(gpu.description) ? 'swiftshader' : 'generic';
  const committed = ordered(read(new URL(`./tuned/${kind}.json`, import.meta.url)), () => true);
  const path = tuningPath(gpu);
  if (!existsSync(path)) return { source: `committed defaults for ${kind}`, order: committed };
  const own = read(path);
  const fresh = (family: string) => own.shaders[family] === shaderHash(family);
  const stale = [...new Set(own.problems.map(({ family }) => family))].filter((family) => !fresh(family));
  const note = stale.length > 0 ? `; shaders of ${stale.join(', ')} have changed since: run \`glimpse tune\` again` : '';
  return { source: `${path}, made ${own.date}${note}`, order: new Map([...committed, ...ordered(own, fresh)]) };
}

const tunings = new WeakMap<Gpu, Tuning>();

export function tuningOf(gpu: Gpu): Tuning {
  let tuning = tunings.get(gpu);
  if (!tuning) {
    tuning = load(gpu);
    tunings.set(gpu, tuning);
  }
  return tuning;
}

/** Versions for this class of problems, fastest first; empty where no table says anything. */
export function tunedOrder(gpu: Gpu, family: string, key: string): readonly string[] {
  const { order } = tuningOf(gpu);
  return order.get(`${family} ${key}`) ?? order.get(`${family} *`) ?? [];
}

/** The class of a size: sizes of one class are served by the same version. */
export function sizeRange(value: number, ...bounds: number[]): string {
  const bound = bounds.find((limit) => value <= limit);
  return bound === undefined ? `>${bounds[bounds.length - 1]}` : `≤${bound}`;
}
